// What a worker of the tests does with a job: with the duration and the end that its options say.
// The job's own data (`ms`, `fail`, `crash`, `hang`) comes before what is set for its name.
import { bullmq } from './connection.mjs';

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function processorOf(version, options, ran) {
  const { UnrecoverableError } = bullmq(version);
  const { ms = 0, fail = {}, failRatio = 0, failMessage = 'failed as asked' } = options;
  const { unrecoverable = [], crash = [], hang = [], ledger } = options;
  let client;

  return async function process_(job, _token, worker) {
    const data = job.data ?? {};
    const run = { id: job.id, name: job.name, start: Date.now(), end: null, outcome: null };
    ran.push(run);
    if (ledger) {
      client ??= await worker().client;
      // In Redis and before anything else: it survives what happens to this process next.
      await client.rpush(ledger, job.id);
    }
    if (data.crash || crash.includes(job.name)) process.kill(process.pid, 'SIGKILL');
    if (data.hang || hang.includes(job.name)) await new Promise(() => {});
    const length = data.ms ?? (typeof ms === 'object' ? (ms[job.name] ?? 0) : ms);
    if (length > 0) await sleep(length);
    run.end = Date.now();
    const message = data.fail ?? fail[job.name] ?? (Math.random() < failRatio && failMessage);
    run.outcome = message ? 'failed' : 'completed';
    if (!message) return { ok: true };
    throw unrecoverable.includes(job.name) ? new UnrecoverableError(message) : new Error(message);
  };
}
