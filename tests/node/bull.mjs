// The real BullMQ as a server on a pipe: a line of JSON in, `{id, op, ...}`, a line of JSON out,
// `{id, ok}` or `{id, error}`. `bull.py` is the other end. Ends when its input ends.
import { createInterface } from 'node:readline';
import { bullmq, connectionOf, library } from './connection.mjs';
import { processorOf } from './processor.mjs';

const CHUNK = 1000;
const KEPT_ERRORS = 100;

const opened = new Map(); // handle → { kind, it, … }
let handles = 0;

function open(kind, it, more = {}) {
  const handle = `${kind}${++handles}`;
  const errors = [];
  // Without a listener an error of the connection would end the process.
  it.on('error', (error) => {
    if (errors.push(String(error.message || error.code || error)) > KEPT_ERRORS) errors.shift();
  });
  opened.set(handle, { kind, it, errors, ...more });
  return handle;
}

function find(handle, kind) {
  const found = opened.get(handle);
  if (found?.kind !== kind) throw new Error(`there is no open ${kind} ${handle}`);
  return found;
}

async function close(handle, force) {
  const found = opened.get(handle);
  if (!found) return;
  opened.delete(handle);
  await found.it.close(force);
  await found.close?.();
}

// Names by their shares, in turns: { a: 3, b: 1 } is a, a, a, b, a, …
function* namesOf(names) {
  const turn = Object.entries(names).flatMap(([name, share]) => Array(share).fill(name));
  for (let n = 0; ; n++) yield turn[n % turn.length];
}

// A Cluster client that we made is ours to close, too.
function connect(settings) {
  const connection = connectionOf(settings);
  const own = typeof connection.disconnect === 'function';
  return { connection, close: own ? () => connection.disconnect() : undefined };
}

const ops = {
  ping: () => process.version,

  async queue({ version, connection: settings, name, prefix, options }) {
    const { connection, close } = connect(settings);
    const { Queue } = bullmq(version);
    const it = new Queue(name, { ...options, connection, prefix });
    await it.waitUntilReady();
    return open('queue', it, { version, settings, close });
  },

  // Bull, the library before BullMQ: its options and its way to be ready are its own.
  async bull({ package: from, connection: settings, name, prefix, works }) {
    const Queue = library(from);
    const it = new Queue(name, { redis: connectionOf(settings), prefix });
    await it.isReady();
    if (works) it.process('*', async () => {});
    return open('queue', it);
  },

  async add({ queue, name, data, opts }) {
    return (await find(queue, 'queue').it.add(name, data, opts)).id;
  },

  async addBulk({ queue, names, count, data, opts, pad, ids }) {
    const { it } = find(queue, 'queue');
    const turn = namesOf(names);
    const padding = pad > 0 ? { pad: 'x'.repeat(pad) } : {};
    for (let first = 0; first < count; first += CHUNK) {
      const length = Math.min(CHUNK, count - first);
      const jobs = Array.from({ length }, (_, n) => ({
        name: turn.next().value,
        data: { ...data, n: first + n, ...padding },
        opts: { ...opts, ...(ids ? { jobId: `${ids}-${first + n}` } : {}) },
      }));
      await it.addBulk(jobs);
    }
    return count;
  },

  async flow({ queue, tree }) {
    const { version, settings, it } = find(queue, 'queue');
    const { connection, close } = connect(settings);
    const { FlowProducer } = bullmq(version);
    const producer = new FlowProducer({ connection, prefix: it.opts.prefix });
    producer.on('error', () => {});
    try {
      const ids = ({ job, children }) => ({ id: job.id, children: (children ?? []).map(ids) });
      return ids(await producer.add(tree));
    } finally {
      await producer.close();
      await close?.();
    }
  },

  async worker({ queue, options, behaviour }) {
    const { version, settings, it } = find(queue, 'queue');
    const { connection, close } = connect(settings);
    const { Worker } = bullmq(version);
    const ran = [];
    const work = processorOf(version, behaviour, ran);
    let worker;
    const processor = (job, token) => work(job, token, () => worker);
    worker = new Worker(it.name, processor, { ...options, connection, prefix: it.opts.prefix });
    await worker.waitUntilReady();
    return open('worker', worker, { ran, close });
  },

  ran: ({ worker }) => find(worker, 'worker').ran,
  errors: ({ handle }) => opened.get(handle)?.errors ?? [],

  async call({ handle, method, args }) {
    const { it } = find(handle, handle.replace(/\d+$/, ''));
    if (typeof it[method] !== 'function') throw new Error(`${handle} has no method ${method}`);
    return it[method](...args);
  },

  async job({ queue, job, method, args }) {
    const { it } = find(queue, 'queue');
    const found = await it.getJob(job);
    if (!found) throw new Error(`there is no job ${job} in ${it.name}`);
    return method ? found[method](...args) : found;
  },

  async setConcurrency({ queue, limit }) {
    const { it } = find(queue, 'queue');
    if (limit !== null) return it.setGlobalConcurrency(limit);
    return it.removeGlobalConcurrency();
  },

  close: ({ handle, force }) => close(handle, force),

  async closeAll() {
    const [workers, queues] = ['worker', 'queue'].map((kind) =>
      [...opened].filter(([, entry]) => entry.kind === kind).map(([handle]) => handle),
    );
    await Promise.all(workers.map((handle) => close(handle, true)));
    await Promise.all(queues.map((handle) => close(handle, true)));
  },
};

function answer(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function serve(line) {
  const { id, op, ...rest } = JSON.parse(line);
  try {
    if (!ops[op]) throw new Error(`there is no operation ${op}`);
    answer({ id, ok: (await ops[op](rest)) ?? null });
  } catch (error) {
    answer({ id, error: { name: error.name, message: error.message, stack: error.stack } });
  }
}

// What BullMQ lets slip when a connection ends must not end the tests of everything else.
process.on('unhandledRejection', (error) => console.error('unhandled:', error));
createInterface({ input: process.stdin })
  .on('line', serve)
  .on('close', () => process.exit(0));
