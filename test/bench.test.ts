import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';

const benches = readdirSync(new URL('../bench/', import.meta.url)).filter((file) => file.endsWith('.mjs') && file !== 'run.mjs');

// Benches are too slow for tests, but what they import must be there. They run the built package.
it.each(benches)('bench/%s finds what it imports, and has a title', async (file) => {
	const bench = (await import(new URL(`../bench/${file}`, import.meta.url).href)) as { readonly title: unknown; readonly run: unknown };
	expect(bench.title).toEqual(expect.any(String));
	expect(bench.run).toBeInstanceOf(Function);
});
