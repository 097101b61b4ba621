// A backfill: enqueues JOBS ranges in the background queue, once, and ends.
import { Queue } from 'bullmq';
import { integer, redis, text } from './pod.mjs';

const CHUNK = 500; // jobs per round trip

const queue = new Queue(text('QUEUE', 'etl-backfill'), { connection: redis(text('REDIS_URL')) });
const jobs = integer('JOBS', 3000);
for (let from = 0; from < jobs; from += CHUNK) {
  await queue.addBulk(
    Array.from({ length: Math.min(CHUNK, jobs - from) }, (_, n) => ({
      name: 'backfill_range',
      data: { range: from + n },
      opts: { removeOnComplete: true },
    })),
  );
}
await queue.close();
