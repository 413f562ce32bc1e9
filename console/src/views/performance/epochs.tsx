/** Epochs as a timeline: how long each was open, how much of it was the commit, how much it held. */
import { useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { Epoch } from '../../api/types';
import { bytes, count, duration } from '../../lib/format';
import { graph } from '../../state/pipeline';
import { Empty, Failure, Loading, Scroll, Time } from '../../ui/bits';
import { useLoad } from '../../ui/load';

const SHOWN = 60;
const HEIGHT = 96;

function Bars({ epochs, chosen, choose }: { epochs: Epoch[]; chosen: number; choose: (epoch: number) => void }) {
  const most = Math.max(...epochs.map((e) => e.records ?? 0), 1);
  const longest = Math.max(...epochs.map((e) => e.commit_seconds ?? 0), 1e-6);
  return (
    <div
      class="epoch-bars"
      role="listbox"
      aria-label="Epochs, oldest first; arrow keys choose"
      tabIndex={0}
      onKeyDown={(event) => {
        const at = epochs.findIndex((e) => e.epoch === chosen);
        const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: epochs.length - 1 }[event.key];
        const epoch = to === undefined ? undefined : epochs[Math.max(0, Math.min(epochs.length - 1, to))];
        if (!epoch) return;
        event.preventDefault();
        choose(epoch.epoch);
      }}
    >
      {epochs.map((e) => (
        <div
          key={e.epoch}
          role="option"
          aria-selected={e.epoch === chosen}
          aria-label={`epoch ${e.epoch}: ${count(e.records)} records, commit ${duration(e.commit_seconds)}`}
          class="epoch-bar"
          onClick={() => choose(e.epoch)}
        >
          <i class="rows" style={{ height: `${((e.records ?? 0) / most) * HEIGHT}px` }} />
          <i class="commit" style={{ height: `${Math.max(2, ((e.commit_seconds ?? 0) / longest) * 34)}px` }} />
        </div>
      ))}
    </div>
  );
}

function Detail({ epoch }: { epoch: Epoch }) {
  return (
    <div>
      <p class="num"><strong>Epoch {count(epoch.epoch)}</strong> · {count(epoch.records)} records read, {count(epoch.rows)} rows made · opened <Time at={epoch.opened_at} /> · open {duration(epoch.duration_seconds)} · commit took {duration(epoch.commit_seconds)}</p>
      <Scroll label="Targets of the epoch">
        <table class="grid compact">
          <thead><tr><th>target</th><th class="right">rows</th><th class="right">size</th><th class="right">refused</th><th class="right">took</th><th>recovery</th></tr></thead>
          <tbody>
            {Object.entries(epoch.sinks).map(([name, sink]) => (
              <tr key={name}>
                <td>{name}</td><td class="num right">{count(sink.rows)}</td><td class="num right">{bytes(sink.bytes)}</td>
                <td class="num right">{count(sink.refused)}</td><td class="num right">{duration(sink.seconds)}</td>
                <td>{sink.already_there ? 'found there, not written again' : '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </div>
  );
}

export function EpochTimeline() {
  const [picked, setPicked] = useState<number | null>(null);
  const { value, error, reload } = useLoad((signal) => api.epochs(SHOWN, signal), [graph.value?.epoch]);
  if (error) return <Failure error={error} again={reload} />;
  if (!value) return <Loading />;
  if (value.epochs.length === 0) {
    return <Empty title="No epoch yet"><p>The first one is committed soon after the first record, then every {duration(graph.value?.epoch_interval_seconds)} while records come.</p></Empty>;
  }
  const epochs = [...value.epochs].reverse();
  const newest = epochs.at(-1)!;
  const chosen = epochs.find((e) => e.epoch === picked) ?? newest;
  return (
    <>
      <p class="legend-line small"><i class="swatch epoch-rows" /> records <i class="swatch epoch-commit" /> time the commit took</p>
      <Bars epochs={epochs} chosen={chosen.epoch} choose={(epoch) => setPicked(epoch === newest.epoch ? null : epoch)} />
      <div class="row between muted small"><Time at={epochs[0]?.committed_at} /><Time at={newest.committed_at} /></div>
      <Detail epoch={chosen} />
    </>
  );
}
