// The ingestion API: POST /snapshots -> 202, or 503 with Retry-After while ingestion is paused.
// It also serves the application's metrics, for itself and for the queue.
import { Queue, QueueEvents } from 'bullmq';
import { integer, onStop, pool, redis, serve, text } from './pod.mjs';

// How long a reading of the flag is believed: a pause must work within a second.
const FLAG_MS = 500;
// A client gets 503 rather than be kept waiting for a store that does not answer.
const ANSWER_MS = 2000;
const RETRY_AFTER = { 'Retry-After': '3' };
const FLAG = `SELECT COALESCE((data ->> 'ingest_paused')::boolean, false) AS paused
                FROM feature_flags WHERE name = 'ingest_control'`;

const database = pool('api');
const connection = redis(text('REDIS_URL'));
const name = text('QUEUE', 'etl-snapshots');
const queue = new Queue(name, { connection });
const events = new QueueEvents(name, { connection });
const counts = { received: 0, success: 0, failed: 0 };
let paused; // undefined: not read yet
let sequence = 0;
const run = `${process.pid}-${Date.now()}`;

events.on('completed', () => (counts.success += 1));
events.on('failed', () => (counts.failed += 1));

async function watchFlag() {
  try {
    const { rows } = await database.query(FLAG);
    paused = Boolean(rows[0]?.paused);
  } catch (error) {
    console.error('flag not read:', error.code ?? error.message); // the last known value stays
  }
  setTimeout(watchFlag, FLAG_MS);
}

function unavailable(reason) {
  return [503, { ...RETRY_AFTER, 'content-type': 'application/json' }, JSON.stringify({ reason })];
}

function late(ms) {
  return new Promise((_, reject) => setTimeout(() => reject(new Error('late')), ms).unref());
}

async function post(body) {
  if (paused !== false) return unavailable(paused ? 'paused' : 'starting');
  sequence += 1;
  const data = { snapshot: `${run}-${sequence}`, ...JSON.parse(body) };
  try {
    // As the application sets it: five attempts, exponential back-off, and nothing kept of what
    // went well, because a snapshot is megabytes.
    await Promise.race([
      queue.add('process_snapshot', data, {
        jobId: data.snapshot,
        attempts: integer('ETL_MAX_RETRIES', 5),
        backoff: { type: 'exponential', delay: 1000 },
        removeOnComplete: true,
      }),
      late(ANSWER_MS),
    ]);
  } catch (error) {
    console.error('snapshot not stored:', error.message);
    return unavailable('storage');
  }
  counts.received += 1;
  return [202, { 'content-type': 'application/json' }, '{"status":"accepted"}'];
}

async function metrics() {
  const found = await queue.getJobCounts('wait', 'paused', 'prioritized', 'active', 'failed');
  const waiting = found.wait + found.paused + found.prioritized;
  const label = `{queue_name="${name}"}`;
  const processed = 'starforge_etl_snapshots_processed_total';
  const lines = [
    `# TYPE starforge_queue_jobs_waiting_total gauge`,
    `starforge_queue_jobs_waiting_total${label} ${waiting}`,
    `# TYPE starforge_queue_jobs_active_total gauge`,
    `starforge_queue_jobs_active_total${label} ${found.active}`,
    `# TYPE starforge_queue_jobs_failed_total gauge`,
    `starforge_queue_jobs_failed_total${label} ${found.failed}`,
    `# TYPE starforge_etl_snapshots_received_total counter`,
    `starforge_etl_snapshots_received_total{job_type="process_snapshot"} ${counts.received}`,
    `# TYPE ${processed} counter`,
    `${processed}{result="success"} ${counts.success}`,
    `${processed}{result="failure"} ${counts.failed}`,
    `# TYPE starforge_etl_snapshots_failed_total counter`,
    `starforge_etl_snapshots_failed_total{error_type="DEMO"} ${counts.failed}`,
  ];
  return [200, { 'content-type': 'text/plain; version=0.0.4' }, `${lines.join('\n')}\n`];
}

await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
const server = serve({
  'POST /snapshots': post,
  'GET /readyz': () => [paused === undefined ? 503 : 200, {}, ''],
  'GET /metrics': metrics,
});
watchFlag();
onStop(async () => {
  server.close();
  await Promise.allSettled([events.close(), queue.close(), database.end()]);
});
