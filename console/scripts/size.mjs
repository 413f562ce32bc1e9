// Fails the build when what a browser loads outgrows its budget: people on call open this page over bad networks.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BUDGET = 300 * 1024;
const folder = new URL('../dist', import.meta.url).pathname;
let total = 0;
for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!file.isFile()) continue;
  const bytes = gzipSync(readFileSync(join(file.parentPath, file.name))).length;
  total += bytes;
  console.log(`${(bytes / 1024).toFixed(1).padStart(7)} KiB gzipped  ${file.name}`);
}
console.log(`${(total / 1024).toFixed(1).padStart(7)} KiB gzipped  in all; at most ${BUDGET / 1024}`);
if (total > BUDGET) process.exit(1);
