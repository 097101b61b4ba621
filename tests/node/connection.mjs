// From what Python says about a Redis to what BullMQ takes as `connection`.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// BullMQ 6 finds ioredis by itself only from CommonJS.
const require = createRequire(import.meta.url);
const { Cluster } = require('ioredis');

export const library = require;
export const bullmq = (version) => require(`bullmq${version}`);

export function connectionOf({ url, authority, sentinels, master, cluster }) {
  const at = new URL(url);
  const login = {
    username: decodeURIComponent(at.username) || undefined,
    password: decodeURIComponent(at.password) || undefined,
    tls: at.protocol === 'rediss:' ? { ca: authority && readFileSync(authority) } : undefined,
  };
  const common = { ...login, db: Number(at.pathname.slice(1) || 0), maxRetriesPerRequest: null };
  const address = { host: at.hostname, port: Number(at.port) };
  if (cluster) return new Cluster([address], { redisOptions: login });
  if (sentinels) {
    const hosts = sentinels.map((text) => new URL(text));
    return {
      ...common,
      sentinels: hosts.map(({ hostname, port }) => ({ host: hostname, port: Number(port) })),
      name: master,
    };
  }
  return { ...common, ...address };
}
