import { expect, test } from 'vitest';
import { workerEntry } from '../../src/core/worker-entry.ts';

test('a source file gets the compiled neighbour in dist, a compiled one its own neighbour', () => {
	const at = (caller: string, entry: string): string => workerEntry(caller, entry).href;
	expect(at('file:///home/src/p/src/train/data/loader.ts', './data-worker.js')).toBe('file:///home/src/p/dist/train/data/data-worker.js');
	expect(at('file:///home/src/p/src/engine/local/run.ts?v=1', '../worker.js')).toBe('file:///home/src/p/dist/engine/worker.js');
	expect(at('file:///home/src/p/dist/train/data/loader.js', './data-worker.js')).toBe('file:///home/src/p/dist/train/data/data-worker.js');
	expect(at('file:///C:/p/src/a%20b/loader.ts', './w.js')).toBe('file:///C:/p/dist/a%20b/w.js');
});
