import { useEffect, useRef, useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { QuarantineGroup, QuarantineRow, ReplayFilter } from '../../api/types';
import { count, plural, short } from '../../lib/format';
import { bind } from '../../lib/keys';
import { refine, route } from '../../router';
import { graph } from '../../state/pipeline';
import { may } from '../../state/session';
import { Empty, Failure, Loading, Page, Time } from '../../ui/bits';
import { Icon } from '../../ui/icons';
import { walkWithArrows } from '../../ui/list';
import { useLoad, useSettled } from '../../ui/load';
import { Detail } from './detail';
import { REASONS } from './reasons';
import { ReplayDialog, type Choice } from './replay';

const PAGE = 50;

function sums(groups: QuarantineGroup[], by: 'table' | 'reason'): [string, number][] {
  const sum = new Map<string, number>();
  for (const group of groups) sum.set(group[by], (sum.get(group[by]) ?? 0) + group.rows);
  return [...sum].sort((a, b) => b[1] - a[1]);
}

function Filters({ groups }: { groups: QuarantineGroup[] }) {
  const { table = '', reason = '', text = '', epoch = '' } = route.value.query;
  const reasons = sums(groups.filter((g) => !table || g.table === table), 'reason');
  return (
    <div class="filters card" role="search">
      <label class="search grow"><Icon name="search" /><input type="search" data-search placeholder="Search in detail and raw bytes" aria-label="Search in detail and raw bytes" value={text} onInput={(event) => refine({ text: event.currentTarget.value })} /></label>
      <label>Table
        <select value={table} onChange={(event) => refine({ table: event.currentTarget.value })}>
          <option value="">all</option>
          {[...new Set([...sums(groups, 'table').map(([name]) => name), table])].filter(Boolean).map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
      </label>
      <label>Epoch <input class="short" inputMode="numeric" value={epoch} onInput={(event) => refine({ epoch: event.currentTarget.value.replace(/\D/g, '') })} /></label>
      <div class="chips" role="group" aria-label="Reason">
        <button type="button" class="chip" aria-pressed={reason === ''} onClick={() => refine({ reason: undefined })}>any reason</button>
        {reasons.map(([name, rows]) => (
          <button key={name} type="button" class="chip" title={REASONS[name]} aria-pressed={reason === name} onClick={() => refine({ reason: reason === name ? undefined : name })}>
            {name} <b class="num">{short(rows)}</b>
          </button>
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  row: QuarantineRow;
  chosen: boolean;
  ticked: boolean;
  open: () => void;
  tick: () => void;
}

function Row({ row, chosen, ticked, open, tick }: RowProps) {
  return (
    <tr
      tabIndex={0}
      data-item
      data-row={row.id}
      class={`pick ${chosen ? 'chosen' : ''} ${row.replayed ? 'done' : ''}`}
      aria-selected={chosen}
      onClick={open}
      onKeyDown={(event) => {
        if (event.target !== event.currentTarget) return;
        if (event.key === 'Enter') open();
        else if (event.key === ' ') {
          event.preventDefault();
          if (row.replayable) tick();
        }
      }}
    >
      <td onClick={(event) => event.stopPropagation()}>
        <input type="checkbox" checked={ticked} disabled={!row.replayable} onChange={tick} aria-label={`Select the row at ${row.source} ${row.partition}:${row.position}`} />
      </td>
      <td class="num"><Time at={row.quarantined_at} /></td>
      <td class="num right">{count(row.epoch)}</td>
      <td>{row.table}</td>
      <td><span class={`reason ${row.reason}`}>{row.reason}</span></td>
      <td class="clip" title={row.detail ?? ''}>{row.detail}</td>
      <td class="clip mono muted">{row.raw ?? (row.raw_base64 ? 'bytes that are no text' : '')}</td>
      <td>{row.replayed ? <span class="verdict good"><Icon name="ok" size={13} /> replayed</span> : row.replayable ? 'waits' : <span class="muted">stays</span>}</td>
    </tr>
  );
}

export function QuarantineView() {
  const query = route.value.query;
  const settled = useSettled(query, 250);
  const filter = { table: settled.table, reason: settled.reason, text: settled.text, epoch: settled.epoch };
  const key = JSON.stringify(filter);
  const epoch = graph.value?.epoch;
  const summary = useLoad((signal) => api.quarantineSummary(signal), [epoch]);
  const list = useLoad((signal) => api.quarantine({ ...filter, limit: PAGE }, signal), [key, epoch]);
  const [older, setOlder] = useState<{ key: string; rows: QuarantineRow[]; next: string | null } | null>(null);
  const [trouble, setTrouble] = useState<Error | null>(null);
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const [chosen, setChosen] = useState<string | null>(null);
  const [replay, setReplay] = useState<Choice | null>(null);

  useEffect(() => setTicked(new Set()), [key]);

  const extra = older?.key === key ? older : null;
  const seen = new Set<string>();
  const rows = [...(list.value?.rows ?? []), ...(extra?.rows ?? [])].filter((row) => (seen.has(row.id) ? false : (seen.add(row.id), true)));
  const next = extra ? extra.next : (list.value?.next ?? null);
  const total = list.value?.total ?? 0;
  const open = rows.find((row) => row.id === chosen);
  const filtered = Boolean(settled.table || settled.reason || settled.text || settled.epoch);
  const allowed = may('operator');
  const why = allowed ? undefined : 'This needs the role operator';

  const tick = (id: string) => {
    const set = new Set(ticked);
    if (!set.delete(id)) set.add(id);
    setTicked(set);
  };
  const replayTicked = () => ticked.size > 0 && allowed && setReplay({ ids: [...ticked] });
  const replayAll = () => {
    const chosenFilter: ReplayFilter = {};
    if (filter.table) chosenFilter.table = filter.table;
    if (filter.reason) chosenFilter.reason = filter.reason;
    if (filter.text) chosenFilter.text = filter.text;
    if (filter.epoch) chosenFilter.epoch = Number(filter.epoch);
    setReplay({ filter: chosenFilter });
  };
  const latest = useRef(replayTicked);
  latest.current = replayTicked;
  useEffect(() => bind({ r: () => latest.current() }), []);

  const refresh = () => {
    list.reload();
    summary.reload();
  };
  const loadMore = async () => {
    try {
      const page = await api.quarantine({ ...filter, limit: PAGE, cursor: next ?? undefined });
      setOlder({ key, rows: [...(extra?.rows ?? []), ...page.rows], next: page.next });
    } catch (failure) {
      setTrouble(failure as Error);
    }
  };
  const replayable = rows.filter((row) => row.replayable);
  const allTicked = replayable.length > 0 && replayable.every((row) => ticked.has(row.id));

  const actions = (
    <>
      <button type="button" class="primary" disabled={ticked.size === 0 || !allowed} title={why ?? 'Replay the selected rows (r)'} onClick={replayTicked}>
        Replay selected <span class="num count">{ticked.size}</span>
      </button>
      <button type="button" disabled={total === 0 || !allowed} title={why} onClick={replayAll}>{filtered ? 'Replay all that fit' : 'Replay all'}</button>
    </>
  );

  return (
    <Page title="Quarantine" what="Rows that were refused, with their bytes and the reason. Mend the cause, then replay them: each goes once." actions={actions}>
      <Filters groups={summary.value?.groups ?? []} />
      {list.error && <Failure error={list.error} again={refresh} />}
      {!list.value && !list.error && <Loading />}
      {list.value && rows.length === 0 && (
        filtered
          ? <Empty title="Nothing fits"><p>No refused row fits this filter. <button type="button" class="link" onClick={() => refine({ table: undefined, reason: undefined, text: undefined, epoch: undefined })}>Clear the filter</button></p></Empty>
          : <Empty title="Nothing was refused"><p>All rows that were read had the right format, fit their columns, kept the rules and came in time. If one does not, it waits here with its bytes.</p></Empty>
      )}
      {rows.length > 0 && (
        <div class={`split ${open ? 'with-panel' : ''}`}>
          <div>
            <div class="card scroll-x">
              <table class="grid quarantine cards" onKeyDown={walkWithArrows}>
                <thead>
                  <tr>
                    <th><input type="checkbox" checked={allTicked} disabled={replayable.length === 0} aria-label="Select all rows shown" onChange={() => setTicked(allTicked ? new Set() : new Set(replayable.map((row) => row.id)))} /></th>
                    <th>refused</th><th class="right">epoch</th><th>table</th><th>reason</th><th>detail</th><th>as it came</th><th>state</th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((row) => <Row key={row.id} row={row} chosen={row.id === chosen} ticked={ticked.has(row.id)} open={() => setChosen(row.id === chosen ? null : row.id)} tick={() => tick(row.id)} />)}
                </tbody>
              </table>
            </div>
            {trouble && <Failure error={trouble} />}
            <p class="row center">
              <span class="muted num">{count(rows.length)} of {plural(total, 'row')}</span>
              {next && <button type="button" onClick={() => void loadMore()}>Older rows</button>}
            </p>
          </div>
          {open && (
            <Detail row={open} onClose={() => {
              setChosen(null);
              document.querySelector<HTMLElement>(`[data-row="${CSS.escape(open.id)}"]`)?.focus();
            }} />
          )}
        </div>
      )}
      {replay && (
        <ReplayDialog
          choice={replay}
          onClose={() => {
            setReplay(null);
            refresh();
          }}
          onTaken={() => {
            setTicked(new Set());
            refresh();
          }}
        />
      )}
    </Page>
  );
}
