/** @file Workspaces of graphs as the arena of ONNX Runtime counts them. */
import { expect, it } from 'vitest';
import { measureWorkspaces } from '../../../src/engine/local/workspace.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { signatureOf } from '../../../src/program/lower.ts';

/** `depth` products of [n, n] after each other: two inner values are alive at once. */
function products(n: number, depth: number) {
	const g = createBuilder(`products ${n}`);
	const x = g.input('x', 'float32', [n, n]);
	let y = x;
	for (let i = 0; i < depth; i++) y = g.matMul(y, x);
	return g.finish([y]);
}

it('counts what is alive inside a graph beside inputs and outputs, whichever graph comes first', async () => {
	const graphs = new Map([
		['long', products(256, 6)],
		['short', products(64, 6)],
		['alone', products(128, 1)],
	]);
	const bytes = (await measureWorkspaces(graphs))!;
	expect(bytes.get('long')).toBe(2 * 4 * 256 ** 2);
	expect(bytes.get('short')).toBe(2 * 4 * 64 ** 2);
	expect(bytes.get('alone')).toBe(0);
	expect(signatureOf(graphs.get('long')!).workspaceBytes).toBe(2 * 4 * 256 ** 2);
}, 30_000);
