/** Writes rows 0 to 39 (process 0) or 20 to 59 (process 1) to the cache in a folder, a few at a time, from the built package. */
import { createHash } from 'node:crypto';
import { openDiskCache } from '../../../dist/train/cache/disk-cache.js';

const [dir, which] = process.argv.slice(2);
const part = { name: 'vae', digest: 'ab'.repeat(32), shape: [2, 3] };
const cache = await openDiskCache(part, { dir, dtype: 'float32', shardBytes: 5 * 24 });
const from = which === '0' ? 0 : 20;
for (let i = from; i < from + 40; i += 2) {
	const keys = [i, i + 1].map((k) => createHash('sha256').update(String(k)).digest('hex'));
	await cache.rows(keys, async (places) => places.map((p) => Float32Array.from({ length: 6 }, (_, k) => i + p + k / 3)));
}
await cache.flush();
