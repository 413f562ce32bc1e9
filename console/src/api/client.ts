/**
 * Requests to the API. Owns: errors as the API words them, the moment a session ends, waiting when told to wait.
 * Does not own: live updates (live.ts), what to do with an answer.
 */
import type {
  Alert, AlertsAnswer, CheckpointEpoch, Epoch, Finding, Graph, LedgerAnswer, Manifest, QuarantineAnswer, QuarantineGroup,
  QueryAnswer, ReplayAnswer, ReplayFilter, SeriesAnswer, Session, Table,
} from './types';

/** A refusal by the server, or none at all (status 0). `title` says what, `detail` what to do next. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string | null,
    readonly title: string,
    readonly detail: string | null,
  ) {
    super(title);
  }
}

let onUnauthorized: () => void = () => {};

/** Called whenever the server says that it does not know us (any more). */
export function whenUnauthorized(act: () => void): void {
  onUnauthorized = act;
}

type Query = Record<string, string | number | null | undefined>;

function withQuery(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') search.set(key, String(value));
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

async function failure(response: Response): Promise<ApiError> {
  let problem: { title?: string; detail?: string; code?: string } = {};
  try {
    problem = await response.json();
  } catch {
    // Not from the API: a proxy's page, perhaps. The status says what there is to say.
  }
  const title = problem.title ?? `the server answered ${response.status} ${response.statusText}`.trim();
  const detail = problem.detail && problem.detail !== title ? problem.detail : null;
  return new ApiError(response.status, problem.code ?? null, title, detail);
}

async function send(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, credentials: 'same-origin', cache: 'no-store' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, null, 'the server cannot be reached', 'Is `watershed up` running? This page tries again by itself.');
  }
  if (response.ok) return response;
  const error = await failure(response);
  if (error.status === 401 && path !== '/v1/login') onUnauthorized();
  throw error;
}

async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const response = await send(withQuery(path, query), { signal: signal ?? null });
  return (await response.json()) as T;
}

async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const response = await send(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

const name = encodeURIComponent;

export const api = {
  session: (signal?: AbortSignal) => get<Session>('/v1/session', {}, signal),
  login: (token: string) => post<Session>('/v1/login', { token }),
  logout: () => post<void>('/v1/logout', {}),
  graph: (signal?: AbortSignal) => get<Graph>('/v1/graph', {}, signal),
  series: (query: { resolution: '1s' | '10s'; since?: number; names?: string }, signal?: AbortSignal) =>
    get<SeriesAnswer>('/v1/series', query, signal),
  epochs: (limit: number, signal?: AbortSignal) => get<{ epochs: Epoch[] }>('/v1/epochs', { limit }, signal),
  ledger: (
    query: { table?: string; source?: string; from_epoch?: string; to_epoch?: string; limit?: number; cursor?: string },
    signal?: AbortSignal,
  ) => get<LedgerAnswer>('/v1/ledger', query, signal),
  quarantine: (
    query: { table?: string; reason?: string; text?: string; epoch?: string; limit?: number; cursor?: string },
    signal?: AbortSignal,
  ) => get<QuarantineAnswer>('/v1/quarantine', query, signal),
  quarantineSummary: (signal?: AbortSignal) =>
    get<{ groups: QuarantineGroup[]; total: number }>('/v1/quarantine/summary', {}, signal),
  replay: (what: { ids: string[] } | { filter: ReplayFilter }, dryRun: boolean) =>
    post<ReplayAnswer>('/v1/quarantine/replay', dryRun ? { ...what, dry_run: true } : what),
  tables: (signal?: AbortSignal) => get<{ tables: Table[] }>('/v1/tables', {}, signal),
  rows: (table: string, query: { limit: number; offset: number }, signal?: AbortSignal) =>
    get<QueryAnswer>(`/v1/tables/${name(table)}/rows`, query, signal),
  query: (sql: string, limit: number, timeoutSeconds: number, signal: AbortSignal) =>
    post<QueryAnswer>('/v1/query', { sql, limit, timeout_seconds: timeoutSeconds }, signal),
  checkpoints: (query: { limit: number; cursor?: string }, signal?: AbortSignal) =>
    get<{ epochs: CheckpointEpoch[]; next: string | null }>('/v1/checkpoints', query, signal),
  checkpoint: (epoch: number, signal?: AbortSignal) => get<Manifest>(`/v1/checkpoints/${epoch}`, {}, signal),
  verify: () => post<{ ok: boolean; findings: Finding[]; elapsed_seconds: number }>('/v1/verify', {}),
  alerts: (signal?: AbortSignal) => get<AlertsAnswer>('/v1/alerts', {}, signal),
  silence: (id: string, seconds: number, reason: string) => post<Alert>(`/v1/alerts/${name(id)}/silence`, { seconds, reason }),
  acknowledge: (id: string, note: string) => post<Alert>(`/v1/alerts/${name(id)}/ack`, { note }),
};
