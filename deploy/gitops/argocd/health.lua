-- Health of a QueueBacklogPolicy for Argo CD (resource.customizations.health). It shows whether the manifest is in
-- force, not whether the queue is fine: a backlog is no reason to fail a sync, and alerts report it.
--
--   Progressing  the operator has not decided on this generation yet
--   Suspended    suspended, or held by annotation
--   Degraded     what the policy names cannot be read, its target is another policy's, or a pause of the operator cannot be
--                released
--   Healthy      everything that the policy names can be read
local hs = { status = 'Progressing', message = 'waiting for the operator' }
local generation = obj.metadata ~= nil and obj.metadata.generation or nil
local ready, producers, scaling = nil, nil, nil
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == 'Ready' then ready = condition end
    if condition.type == 'ProducersRunning' then producers = condition end
    if condition.type == 'Scaling' then scaling = condition end
  end
end
if ready == nil then return hs end
if generation ~= nil and ready.observedGeneration ~= nil and ready.observedGeneration < generation then
  hs.message = 'the operator has not decided on this generation yet'
  return hs
end
if ready.status ~= 'True' then
  hs.status = ready.status == 'False' and 'Degraded' or 'Progressing'
  hs.message = ready.reason .. ': ' .. ready.message
  return hs
end
if producers ~= nil and producers.reason == 'ReleaseFailed' then
  hs.status = 'Degraded'
  hs.message = producers.message
  return hs
end
if scaling ~= nil and (scaling.reason == 'Held' or scaling.reason == 'Suspended') then
  hs.status = 'Suspended'
  hs.message = scaling.message
  return hs
end
hs.status = 'Healthy'
hs.message = obj.status.summary or ready.message
return hs
