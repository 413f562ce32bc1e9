import { revision, stores } from '../state/series';

/** The last two minutes of a series, as a line without axes: a direction, not a measurement. */
export function Spark({ series, width = 120, height = 24, label }: { series: string; width?: number; height?: number; label: string }) {
  revision.value;
  const values = (stores['1s'].values.get(series) ?? []).slice(-120);
  const known = values.filter((v): v is number => v !== null);
  const top = Math.max(...known, 1e-9);
  const step = width / 119;
  let path = '';
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = width - (values.length - 1 - i) * step;
    const y = height - 2 - (value / top) * (height - 4);
    path += `${drawing ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    drawing = true;
  });
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={`${label}, last two minutes`}>
      <path d={path} />
    </svg>
  );
}
