/** @file No file of src/ reaches itself through imports of values, so that any file may be the first one loaded. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../src');

/** Paths that a source text loads: every static import or export from a relative path but the `type` ones, which leave nothing at run time. */
function loaded(source: string): string[] {
	const statement = /^(?:import|export)\b(?!\s+type\b)(?:[^;'"]*?\bfrom)?\s*['"](\.[^'"]+)['"]/gm;
	return [...source.matchAll(statement)].map((m) => m[1]!);
}

/** The first cycle found among `graph`'s edges, as a path that ends where it starts. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined {
	const done = new Set<string>();
	const visit = (node: string, path: readonly string[]): readonly string[] | undefined => {
		const at = path.indexOf(node);
		if (at >= 0) return [...path.slice(at), node];
		if (done.has(node)) return undefined;
		for (const next of graph.get(node) ?? []) {
			const found = visit(next, [...path, node]);
			if (found) return found;
		}
		done.add(node);
		return undefined;
	};
	for (const node of graph.keys()) {
		const found = visit(node, []);
		if (found) return found;
	}
	return undefined;
}

describe('imports', () => {
	it('are read from the text as the run time sees them', () => {
		expect(
			loaded("import { a } from './a.ts';\nimport {\n\ttype B,\n\tb,\n} from '../b.ts';\nexport * from './c.ts';\nimport './d.ts';"),
		).toEqual(['./a.ts', '../b.ts', './c.ts', './d.ts']);
		expect(
			loaded("import type { A } from './a.ts';\nexport type { B } from './b.ts';\nimport fs from 'node:fs';\nexport const a = 1;"),
		).toEqual([]);
	});

	it('show a cycle where there is one', () => {
		const chain = new Map([
			['a', ['b', 'c']],
			['b', ['c']],
			['c', []],
		]);
		expect(cycleIn(chain)).toBeUndefined();
		expect(cycleIn(new Map([...chain, ['c', ['d']], ['d', ['b']]]))).toEqual(['b', 'c', 'd', 'b']);
	});

	it('of values form no cycle in src/', () => {
		const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ts'));
		const graph = new Map(
			files.map((file) => {
				const path = join(root, file);
				return [file, loaded(readFileSync(path, 'utf8')).map((to) => relative(root, join(dirname(path), to)))] as const;
			}),
		);
		const edges = [...graph.values()].flat();
		expect(edges.length).toBeGreaterThan(files.length);
		expect(edges.filter((to) => !graph.has(to))).toEqual([]);
		expect(cycleIn(graph)).toBeUndefined();
	});
});
