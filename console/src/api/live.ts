/**
 * The WebSocket: one connection, topics counted by those who want them, reconnects with a growing pause.
 *
 * I1  A topic is subscribed on the wire exactly while somebody wants it and the connection is up.
 * I2  `connection` never says `live` longer than `SILENCE_MS` after the last message: a page that shows old numbers
 *     must say so, even if the socket still looks open.
 */
import { signal } from '@preact/signals';
import { api } from './client';

export type Connection =
  | { state: 'connecting' }
  | { state: 'live' }
  /** Numbers on the page are as of `since` (milliseconds). */
  | { state: 'stale'; since: number; why: string };

export const connection = signal<Connection>({ state: 'connecting' });

type Listener = (message: Record<string, unknown>) => void;

// The server sends something every 250 ms while the graph is watched; three seconds without is no hiccup any more.
const SILENCE_MS = 3_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

const listeners = new Map<string, Set<Listener>>();
let socket: WebSocket | null = null;
let wanted = false;
let pause = FIRST_PAUSE_MS;
let retry: ReturnType<typeof setTimeout> | undefined;
let watchdog: ReturnType<typeof setInterval> | undefined;
let heardAt = 0;
let farewell: string | null = null;

function goStale(why: string): void {
  if (connection.value.state === 'stale') return;
  connection.value = { state: 'stale', since: heardAt || Date.now(), why };
}

function receive(text: string): void {
  heardAt = Date.now();
  if (connection.value.state !== 'live') connection.value = { state: 'live' };
  const message = JSON.parse(text) as { topic?: string; why?: string };
  if (message.topic === 'hello') pause = FIRST_PAUSE_MS;
  if (message.topic === 'bye') farewell = message.why ?? 'the server said goodbye';
  const interested = message.topic ? listeners.get(message.topic) : undefined;
  interested?.forEach((listener) => listener(message as Record<string, unknown>));
}

function open(): void {
  const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/live/ws`;
  const mine = new WebSocket(url);
  socket = mine;
  farewell = null;
  mine.onopen = () => {
    if (listeners.size > 0) mine.send(JSON.stringify({ subscribe: [...listeners.keys()] }));
  };
  mine.onmessage = (event) => receive(String(event.data));
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    goStale(farewell ?? 'the connection is gone');
    if (!wanted) return;
    // A browser does not say why a handshake was refused; a plain request does (401 leads to the login page).
    api.session().catch(() => undefined).finally(scheduleReconnect);
  };
}

function scheduleReconnect(): void {
  if (!wanted || socket) return;
  clearTimeout(retry);
  // A little chance, so that many pages do not come back in the same instant.
  retry = setTimeout(open, pause * (0.75 + Math.random() / 2));
  pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
}

function watch(): void {
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  const silent = Date.now() - heardAt;
  if (heardAt && silent > SILENCE_MS) goStale('nothing arrives');
  // Ask for a sign of life: an idle pipeline may have nothing to say.
  if (silent > SILENCE_MS / 3) socket.send(JSON.stringify({ ping: Date.now() % 1_000_000 }));
  // A connection that is dead without having been closed (a laptop that slept): start anew.
  if (heardAt && silent > 4 * SILENCE_MS) socket.close();
}

export function connect(): void {
  if (wanted) return;
  wanted = true;
  open();
  watchdog = setInterval(watch, 500);
}

export function disconnect(): void {
  wanted = false;
  clearTimeout(retry);
  clearInterval(watchdog);
  const old = socket;
  socket = null;
  old?.close();
  connection.value = { state: 'connecting' };
  heardAt = 0;
}

/** Tries at once instead of after the pause: the person asked, or the tab came back to the front. */
export function reconnectNow(): void {
  if (!wanted || socket) return;
  clearTimeout(retry);
  pause = FIRST_PAUSE_MS;
  open();
}

/** Calls `listener` with every message of `topic` until the returned function is called. */
export function subscribe(topic: string, listener: Listener): () => void {
  const set = listeners.get(topic) ?? new Set<Listener>();
  const first = set.size === 0;
  set.add(listener);
  listeners.set(topic, set);
  if (first && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ subscribe: [topic] }));
  return () => {
    set.delete(listener);
    if (set.size > 0 || listeners.get(topic) !== set) return;
    listeners.delete(topic);
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ unsubscribe: [topic] }));
  };
}

/** Asks for a topic's whole state again, after a gap. */
export function resubscribe(topic: string): void {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ unsubscribe: [topic] }));
  socket.send(JSON.stringify({ subscribe: [topic] }));
}
