/** Line icons on a 20 × 20 grid. Decoration only: what they mean is always said in words beside them. */
const PATHS = {
  overview: 'M3 10h3m4-5h3m-3 10h3M6 8h4v4H6zM13 3h4v4h-4zm0 10h4v4h-4zM10 10c2 0 1-5 3-5m-3 5c2 0 1 5 3 5',
  performance: 'M3 17V3m0 14h14M6 13l3-4 3 2 4-6',
  ledger: 'M4 3h12v14H4zM7 7h6M7 10h6M7 13h3',
  quarantine: 'M10 3l7 13H3zM10 8v4m0 1.8v.2',
  alerts: 'M5 14V9a5 5 0 0 1 10 0v5l1 1H4zM8.5 17.5h3',
  tables: 'M3 4h14v12H3zM3 8h14M8 8v8',
  sql: 'M3 5l4 5-4 5M10 15h7',
  checkpoints: 'M10 3v14M5 7h5m5 6h-5M5 7a1.5 1.5 0 1 0-.1 0M15 13a1.5 1.5 0 1 0 .1 0',
  sun: 'M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5m0 13V18M2 10h1.5m13 0H18M4.3 4.3l1.1 1.1m9.2 9.2l1.1 1.1m0-11.4l-1.1 1.1m-9.2 9.2l-1.1 1.1',
  moon: 'M16 12.5A6.5 6.5 0 0 1 7.5 4a6.5 6.5 0 1 0 8.5 8.5z',
  help: 'M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM7.8 8a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6m0 2.1v.2',
  close: 'M5 5l10 10M15 5L5 15',
  ok: 'M4 10.5l4 4 8-9',
  idle: 'M5 10h10',
  behind: 'M10 5.5V10l3 2M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15z',
  retrying: 'M15.5 8A6 6 0 1 0 16 11M16 4v4h-4',
  failed: 'M6 6l8 8M14 6l-8 8M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15z',
  search: 'M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM13 13l4 4',
  source: 'M3 10h9M9 6l4 4-4 4M16 4v12',
  table: 'M3 4h14v12H3zM3 8h14M8 8v8',
  sink: 'M4 4v12M7 10h10M13 6l4 4-4 4',
  static: 'M4 6c0-3 12-3 12 0v8c0 3-12 3-12 0zM4 6c0 3 12 3 12 0M4 10c0 3 12 3 12 0',
  play: 'M6 4l10 6-10 6z',
  download: 'M10 3v9m-4-3l4 4 4-4M4 17h12',
  user: 'M10 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3.5 17c.5-4 3-5 6.5-5s6 1 6.500 5',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
