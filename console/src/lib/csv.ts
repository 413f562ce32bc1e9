import type { Cell } from '../api/types';

/** RFC 4180. NULL is an empty field, text that is empty is "". */
export function toCsv(columns: string[], rows: Cell[][]): string {
  const line = (cells: Cell[]): string => cells.map(field).join(',');
  return [line(columns), ...rows.map(line)].join('\r\n') + '\r\n';
}

function field(cell: Cell): string {
  if (cell === null) return '';
  const text = typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
  return text === '' || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken hold of it by the next turn.
  setTimeout(() => URL.revokeObjectURL(url), 0);
}
