/**
 * What the API says, as the console reads it. Times are microseconds since 1970, durations seconds, sizes bytes.
 * Unknown fields may come at any time and are ignored.
 */

export type Micros = number;
export type Role = 'viewer' | 'operator' | 'admin' | 'ingest';

export interface Session {
  required: boolean;
  authenticated: boolean;
  name: string | null;
  role: Role | null;
  product: string;
  version: string;
  pipeline: string | null;
}

export type NodeKind = 'source' | 'table' | 'sink' | 'static';
export type NodeState = 'ok' | 'idle' | 'behind' | 'retrying' | 'failed';

export interface Account {
  read: number;
  delivered: number;
  filtered: number;
  duplicate: number;
  late: number;
  quarantined: number;
  lost: number;
}

export interface Partition {
  partition: string;
  position?: number | string | null;
  end?: number | string | null;
  lag?: number | null;
  input_rate?: number | null;
  read_rate?: number | null;
  skewed?: boolean;
  hot_key?: string | null;
  hot_share?: number | null;
  watermark?: Micros | null;
  idle?: boolean;
}

export interface GraphNode {
  id: string;
  kind: NodeKind;
  name: string;
  connector: string;
  state: NodeState;
  zone?: string | null;
  stored?: boolean;
  live?: boolean;
  error?: string | null;
  rate?: number | null;
  input_rate?: number | null;
  rows?: number | null;
  refused?: number | null;
  lag_records?: number | null;
  lag_bytes?: number | null;
  lag_seconds?: number | null;
  caught_up?: boolean;
  falling_behind?: boolean;
  catch_up_seconds?: number | null;
  watermark?: Micros | null;
  watermark_lag_seconds?: number | null;
  held_by?: string | null;
  idle?: string[];
  skewed?: boolean;
  partitions?: Partition[];
  account?: Account | null;
  violations?: Record<string, number>;
  state_rows?: number | null;
  state_bytes?: number | null;
  operators?: { id: string; rows: number; bytes: number; spilled: number; evictions: number }[];
  epoch?: number | null;
  committed_at?: Micros | null;
  commit_seconds?: number | null;
  holds_back?: boolean;
  why?: string | null;
}

export interface GraphEdge {
  from: string;
  to: string;
  kind: 'rows' | 'lookup' | string;
  rate: number | null;
}

export interface Objective {
  series: string;
  seconds: number;
}

export interface Graph {
  at: Micros;
  pipeline: string;
  state: string;
  error: string | null;
  generation: number;
  started_at: Micros;
  epoch: number | null;
  open_epoch: number | null;
  committed_at: Micros | null;
  commit_seconds: number | null;
  epoch_interval_seconds: number;
  rate: number | null;
  records: number;
  bytes: number;
  watermark: Micros | null;
  watermark_lag_seconds: number | null;
  state_bytes: number | null;
  memory_limit: number | null;
  quarantine: Record<string, number>;
  notices: string[];
  held_back_by: { node: string; why: string; detail: string } | null;
  objectives?: Objective[];
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export interface SeriesAnswer {
  at: Micros;
  step_seconds: number;
  times: Micros[];
  series: Record<string, (number | null)[]>;
}

export interface Epoch {
  epoch: number;
  opened_at: Micros | null;
  sealed_at: Micros | null;
  committed_at: Micros | null;
  duration_seconds: number | null;
  commit_seconds: number | null;
  records: number | null;
  rows: number | null;
  sinks: Record<string, { rows: number; bytes: number; refused: number; seconds: number | null; already_there: boolean }>;
}

export interface LedgerRow extends Account {
  epoch: number;
  table: string;
  source: string;
  balances: boolean;
}

export interface LedgerAnswer {
  rows: LedgerRow[];
  next: string | null;
  totals: Account;
  total_rows: number;
}

export interface QuarantineRow {
  id: string;
  epoch: number;
  table: string;
  source: string;
  partition: string;
  position: string;
  reason: string;
  detail: string | null;
  raw: string | null;
  raw_base64: string | null;
  raw_bytes: number;
  raw_truncated: boolean;
  event_time: Micros | null;
  quarantined_at: Micros | null;
  replayed: boolean;
  replayable: boolean;
  not_replayable_because?: string | null;
}

export interface QuarantineAnswer {
  rows: QuarantineRow[];
  next: string | null;
  total: number;
}

export interface QuarantineGroup {
  table: string;
  reason: string;
  rows: number;
  first_epoch: number;
  last_epoch: number;
  replayed: number;
}

export interface ReplayFilter {
  table?: string;
  reason?: string;
  text?: string;
  epoch?: number;
  source?: string;
}

export interface ReplayAnswer {
  request: string | null;
  rows: number;
  left_out: { replayed: number; results: number; gone: number };
  dry_run: boolean;
}

export interface Column {
  name: string;
  type: string;
  nullable?: boolean;
}

export interface Table {
  name: string;
  kind: 'table' | 'system' | string;
  zone?: string | null;
  stored?: boolean;
  rows?: number | null;
  bytes?: number | null;
  files?: number | null;
  version?: number | null;
  inputs?: string[];
  columns: Column[];
  partitioned_by?: string[];
  sql?: string | null;
  rules?: { name: string; text: string; on_violation: string }[];
}

export type Kind = 'number' | 'text' | 'time' | 'boolean' | 'bytes' | 'json';

export interface ResultColumn {
  name: string;
  type: string;
  kind: Kind;
}

export type Cell = string | number | boolean | null | object;

export interface QueryAnswer {
  columns: ResultColumn[];
  rows: Cell[][];
  row_count: number;
  truncated: boolean;
  elapsed_seconds: number;
}

export interface CheckpointEpoch {
  epoch: number;
  generation: number;
  prepared_at: Micros | null;
  committed_at: Micros | null;
  complete: boolean;
  state_bytes: number | null;
  kept: boolean;
  sinks: Record<string, { rows: number; bytes: number; refused: number; already_there: boolean }>;
}

export interface Manifest {
  epoch: number;
  generation: number;
  prepared_at: Micros | null;
  committed_at: Micros | null;
  complete: boolean;
  watermark: Micros | null;
  sources: Record<string, unknown>;
  ticks: unknown[];
  ledger: unknown[];
  state: { operator: string; path: string; rows: number; bytes: number; whole: boolean; expires_at: Micros | null }[];
}

export interface Finding {
  check: string;
  level: 'ok' | 'note' | 'fail';
  text: string;
  hint: string | null;
}

export interface Alert {
  id: string;
  name: string;
  severity: string;
  state: 'ok' | 'pending' | 'firing' | 'resolved' | string;
  since: Micros | null;
  value: string | number | null;
  text: string | null;
  target: string | null;
  runbook?: string | null;
  labels?: Record<string, string>;
  silenced_until: Micros | null;
  acked_by: string | null;
  acked_at: Micros | null;
}

export interface AlertsAnswer {
  available: boolean;
  alerts: Alert[];
  history: { at: Micros; id: string; state: string; text: string | null }[];
}
