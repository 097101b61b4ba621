// What every process here shares: its environment, an address to serve on, a signal to stop.
import http from 'node:http';
import pg from 'pg';

export function text(name, fallback) {
  const value = process.env[name] ?? fallback;
  if (value === undefined) {
    console.error(`the environment variable ${name} is not set; the Deployment must set it`);
    process.exit(1);
  }
  return value;
}

export function integer(name, fallback) {
  const value = text(name, String(fallback));
  if (!/^\d+$/.test(value)) {
    console.error(`${name}=${value} is not a whole number`);
    process.exit(1);
  }
  return Number(value);
}

// Options for BullMQ: its workers block, so a request must not give up after some retries.
export function redis(url) {
  const at = new URL(url);
  return {
    host: at.hostname,
    port: Number(at.port || 6379),
    db: Number(at.pathname.slice(1) || 0),
    username: decodeURIComponent(at.username) || undefined,
    password: decodeURIComponent(at.password) || undefined,
    maxRetriesPerRequest: null,
  };
}

// A pool as a worker has one: it fills under load and empties when there is none.
export function pool(name) {
  const made = new pg.Pool({
    connectionString: text('DATABASE_URL'),
    max: integer('PG_POOL_MAX', 4),
    application_name: name,
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 12000,
  });
  // An idle connection that breaks is replaced by the pool; it must not end the process.
  made.on('error', (error) => console.error('database:', error.code ?? error.message));
  return made;
}

// routes: {'GET /readyz': (body) => [status, headers, text]}
export function serve(routes) {
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      const handler = routes[`${request.method} ${request.url}`];
      let answer = [404, {}, ''];
      try {
        if (handler) answer = await handler(Buffer.concat(parts).toString());
      } catch (error) {
        console.error(error.message);
        answer = [500, {}, ''];
      }
      response.writeHead(answer[0], answer[1]);
      response.end(answer[2]);
    });
  });
  // Several pods share this machine's loopback in a local cluster: only POD_IP is ours.
  server.listen(integer('PORT', 8080), text('POD_IP', '127.0.0.1'));
  return server;
}

export function onStop(stop) {
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, async () => {
      if (stopping) return;
      stopping = true;
      await stop();
      process.exit(0);
    });
  }
}
