// A stand-in for the API of `watershed up`, for working on the console without a build of the program, and for states that
// a healthy program does not show. Development only: nothing of it is in dist/ or in the binary.
//
//   npm run mock -- [--port 8080] [--token ws_secret] [--calm] [--empty]
//
// --token asks for a login, --calm is a pipeline in which all is well, --empty one that has seen nothing yet.
// Prints one line, {"url": …}, when it listens.
import { createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { WebSocketServer } from 'ws';
import { World } from './world.mjs';

const argument = (name) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? null : (process.argv[at + 1] ?? '');
};
const token = argument('--token');
const world = new World({ calm: process.argv.includes('--calm'), empty: process.argv.includes('--empty') });
const dist = new URL('../dist', import.meta.url).pathname;
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
// The same policy as the program sends, so that a breach shows here.
const policy = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const known = (request) => token === null || (request.headers.cookie ?? '').includes(`watershed_session=${token}`);
const session = (authenticated) => ({
  required: token !== null, authenticated, product: 'watershed', version: '0.1.0',
  name: authenticated ? (token === null ? 'local' : 'bob') : null,
  role: authenticated ? (token === null ? 'admin' : 'operator') : null,
  pipeline: authenticated ? 'shop' : null,
});

function json(response, body, status = 200, headers = {}) {
  response.writeHead(status, { 'content-type': status >= 400 ? 'application/problem+json' : 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

const problem = (response, status, code, title, detail) => json(response, { type: 'about:blank', title, status, detail, code }, status);

async function bodyOf(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return text ? JSON.parse(text) : {};
}

function file(response, path) {
  let full = join(dist, normalize(path));
  if (!existsSync(full) || path === '/') full = join(dist, 'index.html');
  response.writeHead(200, { 'content-type': types[extname(full)] ?? 'application/octet-stream', 'content-security-policy': policy, 'cache-control': 'no-store' });
  createReadStream(full).pipe(response);
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://mock');
  const query = Object.fromEntries(url.searchParams);
  const path = url.pathname;
  if (!path.startsWith('/v1/')) return file(response, path);
  if (path === '/v1/session') return json(response, session(known(request)));
  const body = request.method === 'POST' ? await bodyOf(request) : {};
  if (path === '/v1/login') {
    if (body.token !== token) return problem(response, 401, 'SRV0002', 'this token is not known', 'Ask whoever runs the pipeline for another one.');
    return json(response, session(true), 200, { 'set-cookie': `watershed_session=${token}; HttpOnly; SameSite=Strict; Path=/` });
  }
  if (path === '/v1/logout') {
    response.writeHead(204, { 'set-cookie': 'watershed_session=; Max-Age=0; Path=/' });
    return response.end();
  }
  if (!known(request)) return problem(response, 401, 'SRV0001', 'no token was sent', 'Log in.');
  const [, , kind, id, verb] = path.split('/').map(decodeURIComponent);
  try {
    if (kind === 'graph') return json(response, world.graph());
    if (kind === 'series') return json(response, world.series(query.resolution));
    if (kind === 'epochs') return json(response, { epochs: world.epochs.slice(0, Number(query.limit ?? 200)) });
    if (kind === 'ledger') return json(response, world.ledger(query));
    if (kind === 'quarantine' && id === 'summary') return json(response, world.summary());
    if (kind === 'quarantine' && id === 'replay') return json(response, world.replay(body));
    if (kind === 'quarantine') return json(response, world.quarantine(query));
    if (kind === 'tables' && verb === 'rows') return json(response, world.rows(id, query));
    if (kind === 'tables') return json(response, { tables: world.tables() });
    if (kind === 'query') {
      if (/pg_sleep/.test(body.sql)) return void setTimeout(() => response.writableEnded || json(response, world.query(body)), 20_000);
      if (!/^\s*(select|with|show|describe)/i.test(body.sql)) return problem(response, 400, 'SRV0010', 'only queries are taken: SELECT, WITH, SHOW, DESCRIBE', 'line 1, column 1');
      return json(response, world.query(body));
    }
    if (kind === 'checkpoints' && id) return json(response, world.manifest(Number(id)));
    if (kind === 'checkpoints') return json(response, world.checkpoints(query));
    if (kind === 'verify') return json(response, world.verify());
    if (kind === 'alerts' && verb) return json(response, world.change(id, verb, body));
    if (kind === 'alerts') return json(response, world.alerts());
    return problem(response, 404, 'SRV0006', `there is no ${path}`, 'See the list.');
  } catch (error) {
    return problem(response, 500, 'SRV0099', String(error), 'The mock failed.');
  }
});

const sockets = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, socket, head) => {
  if (!known(request)) return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const topics = new Set();
    let seq = 0;
    const say = (message) => ws.readyState === 1 && ws.send(JSON.stringify(message));
    const full = () => say({ topic: 'graph', seq: ++seq, full: true, data: world.graph() });
    say({ topic: 'hello', version: 1, role: 'admin', interval_ms: 250 });
    ws.on('message', (text) => {
      const message = JSON.parse(String(text));
      for (const topic of message.subscribe ?? []) {
        topics.add(topic);
        if (topic === 'graph') full();
        if (topic === 'alerts') say({ topic, seq: 1, data: world.alerts() });
      }
      for (const topic of message.unsubscribe ?? []) topics.delete(topic);
      if (message.ping) say({ topic: 'pong', ping: message.ping });
    });
    let seriesSeq = 0;
    const timers = [
      setInterval(() => {
        if (topics.has('graph')) {
          const { nodes, edges, ...top } = world.graph();
          say({ topic: 'graph', seq: ++seq, full: false, data: { ...top, nodes: nodes.filter((n) => n.kind !== 'static'), edges } });
        }
        for (const topic of topics) if (topic.startsWith('rows:')) say({ topic, seq: seq, ...world.live(topic.slice(5)) });
      }, 250),
      setInterval(() => topics.has('series') && say({ topic: 'series', seq: ++seriesSeq, ...world.point() }), 1000),
      setInterval(() => topics.has('alerts') && say({ topic: 'alerts', seq: 2, data: world.alerts() }), 1000),
    ];
    ws.on('close', () => timers.forEach(clearInterval));
  });
});

server.listen(Number(argument('--port') ?? 8080), '127.0.0.1', () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
