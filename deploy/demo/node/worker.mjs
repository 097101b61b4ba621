// A worker: WORKER_CONCURRENCY jobs at a time over one pool; finishes what it has in hand on
// SIGTERM. Serves etl-snapshots and, in another Deployment, etl-backfill.
import { Worker } from 'bullmq';
import { integer, onStop, pool, redis, serve, text } from './pod.mjs';

const JITTER = 0.3;
// Counts how often a job was done: the demo proves that none was lost and none done twice.
const DONE = `INSERT INTO jobs_done (queue, job, times) VALUES ($1, $2, 1)
              ON CONFLICT (queue, job) DO UPDATE SET times = jobs_done.times + 1`;

const name = text('QUEUE', 'etl-snapshots');
const jobMs = integer('JOB_MS', 400);
const failPercent = integer('JOB_FAIL_PERCENT', 0);
const database = pool('etl-worker');
let connected = false;
let finished = 0;
let failed = 0;

async function work(job) {
  const client = await database.connect();
  try {
    connected = true;
    const seconds = (jobMs / 1000) * (1 + JITTER * (2 * Math.random() - 1));
    // The work itself, on the server, as a transformation in SQL would be.
    await client.query('SELECT pg_sleep($1)', [seconds]);
    if (Math.random() * 100 < failPercent) throw new Error('DEMO');
    await client.query(DONE, [name, job.id]);
  } finally {
    client.release();
  }
}

const worker = new Worker(name, work, {
  connection: redis(text('REDIS_URL')),
  concurrency: integer('WORKER_CONCURRENCY', 4),
  name: text('HOSTNAME', 'worker'),
});
worker.on('completed', () => (finished += 1));
worker.on('failed', () => (failed += 1));
worker.on('error', (error) => console.error(error.code ?? error.message));

// Ready once the database has answered: a worker without one adds nothing.
async function ready() {
  if (!connected) {
    await database.query('SELECT 1');
    connected = true;
  }
  return [worker.isRunning() ? 200 : 503, {}, ''];
}

const server = serve({
  'GET /readyz': () => ready().catch(() => [503, {}, '']),
  'GET /metrics': () => [
    200,
    { 'content-type': 'text/plain; version=0.0.4' },
    `starforge_worker_jobs_total{result="success"} ${finished}\n` +
      `starforge_worker_jobs_total{result="failure"} ${failed}\n`,
  ],
});
onStop(async () => {
  await worker.close(); // waits for the jobs in hand
  server.close();
  await database.end();
  console.error(`stopped: ${finished} finished, ${failed} failed`);
});
