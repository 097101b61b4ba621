"""What people and machines read: status, Events, metrics, logs. Projections, never decisions."""
