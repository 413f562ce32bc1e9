import type { QuarantineRow } from '../../api/types';
import { bytes, count } from '../../lib/format';
import { Pill, Time } from '../../ui/bits';
import { Icon } from '../../ui/icons';
import { Hex, Json } from '../../ui/json';
import { REASONS } from './reasons';

export function Detail({ row, onClose }: { row: QuarantineRow; onClose: () => void }) {
  return (
    <aside class="panel card" aria-label="Refused row" onKeyDown={(event) => event.key === 'Escape' && onClose()}>
      <header class="row between">
        <h2>Refused row</h2>
        <button type="button" class="ghost square" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <p class="row wrap">
        <Pill tone="warn" icon="quarantine">{row.reason}</Pill>
        {row.replayed && <Pill tone="good" icon="ok">replayed</Pill>}
        {!row.replayable && !row.replayed && <Pill tone="quiet" icon="idle">not replayable</Pill>}
      </p>
      <p class="callout preserve">{row.detail ?? 'No more is known.'}</p>
      <p class="muted small">{REASONS[row.reason] ?? ''}{row.not_replayable_because ? ` ${row.not_replayable_because}` : ''}</p>
      <dl class="facts">
        <dt>refused at</dt><dd>{row.table}</dd>
        <dt>came from</dt><dd>{row.source}, partition {row.partition}, position <span class="num">{row.position}</span></dd>
        <dt>epoch</dt><dd class="num">{count(row.epoch)}</dd>
        <dt>event time</dt><dd><Time at={row.event_time} /></dd>
        <dt>refused</dt><dd><Time at={row.quarantined_at} /></dd>
      </dl>
      <h3 class="row between">As it came <span class="muted small num">{bytes(row.raw_bytes)}{row.raw_truncated ? ', cut' : ''}</span></h3>
      {row.raw !== null ? <Json text={row.raw} /> : row.raw_base64 !== null ? <Hex base64={row.raw_base64} /> : <p class="muted">The bytes were not kept.</p>}
      {row.raw_truncated && <p class="muted small">Only the beginning is shown. All of it: <code>SELECT CAST(raw AS VARCHAR) FROM system.quarantine</code></p>}
    </aside>
  );
}
