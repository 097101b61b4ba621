"""HTTP calls to systems that a policy names: one session, named limits, faults translated."""
