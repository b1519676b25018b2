import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { docFaults, globalFaults, importFaults, importsOf, type SourceFile, styleFaults } from './helpers/structure.ts';

const root = fileURLToPath(new URL('../src/', import.meta.url));
const files: SourceFile[] = readdirSync(root, { recursive: true, withFileTypes: true })
	.filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
	.map((entry) => {
		const path = join(entry.parentPath, entry.name);
		return { path: relative(root, path).replaceAll('\\', '/'), text: readFileSync(path, 'utf8') };
	});
const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Record<string, Record<string, string>>;
const packages = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });

describe('the source tree', () => {
	it('imports only downwards, and Node only where it may', () => {
		expect(files.length).toBeGreaterThan(100);
		expect(importFaults(files, packages)).toEqual([]);
	});

	it('uses Node’s globals only where it may', () => {
		expect(globalFaults(files)).toEqual([]);
	});

	it('documents every file, exported function and class', () => {
		expect(docFaults(files)).toEqual([]);
	});

	it('has no long files and no any', () => {
		expect(styleFaults(files)).toEqual([]);
	});
});

describe('the rules', () => {
	const file = (path: string, text: string): SourceFile => ({ path, text });
	const others = ['core/a.ts', 'graph/a.ts', 'engine/local/a.ts', 'engine/simulate/a.ts', 'io/a.ts', 'cli/a.ts', 'index.ts'].map((path) =>
		file(path, ''),
	);
	const faults = (path: string, text: string) => importFaults([...others, file(path, text)], ['valibot', 'koffi']);

	it('read every form of import', () => {
		const text = `import './a.ts';
import type { B } from './b.ts';
import {
	c,
	type D,
} from '../c.ts';
export * from './d.ts';
export { e } from './e.ts';
import f, { g } from 'node:fs';
const late = () => import('./h.ts');
// import './not.ts'
/** import('./nor.ts') \`import './this.ts'\` */
export const text = 'from';
const s = "x from './y.ts'";
`;
		expect(importsOf(file('x.ts', text))).toEqual(['./a.ts', './b.ts', '../c.ts', './d.ts', './e.ts', 'node:fs', './h.ts']);
	});

	it.each<[string, string, string]>([
		['graph/b.ts', `import type { A } from '../io/a.ts';`, 'graph comes before io'],
		['core/b.ts', `export { a } from '../graph/a.ts';`, 'core comes before graph'],
		['engine/simulate/b.ts', `import { a } from '../local/a.ts';`, 'engine/local/a.ts needs Node'],
		['graph/b.ts', `import { readFileSync } from 'node:fs';`, 'only engine/local, engine/torch, io, train, generate, cli may'],
		['engine/simulate/b.ts', `import koffi from 'koffi';`, 'only engine/local, engine/torch, io, train, generate, cli may'],
		['cli/b.ts', `import left from 'left-pad/x.js';`, 'not a dependency in package.json'],
		['graph/b.ts', `import { a } from './missing.ts';`, 'there is no such file'],
		['cli/b.ts', `import { a } from '../index.ts';`, 'nothing imports the files right under src/'],
		['cli/b.ts', `import { a } from '../../test/a.ts';`, 'it leaves src/'],
		['extra/b.ts', `import { a } from '../core/a.ts';`, 'folder extra is not in the list of folders'],
	])('find that %s may not: %s', (path, text, rule) => {
		expect(faults(path, text)).toEqual([`${path} imports ${/'(.*)'/.exec(text)![1]}: ${rule}`]);
	});

	it.each<[string, string]>([
		['graph/b.ts', `import { a } from '../core/a.ts';\nimport * as v from 'valibot';`],
		['io/b.ts', `import { readFileSync } from 'node:fs';\nimport { a } from '../engine/local/a.ts';`],
		['engine/local/b.ts', `import koffi from 'koffi';\nimport { a } from '../simulate/a.ts';`],
		['main.ts', `import { a } from './cli/a.ts';\nimport { b } from './core/a.ts';`],
	])('let %s be', (path, text) => {
		expect(faults(path, text)).toEqual([]);
	});

	it('find what is not documented', () => {
		const text = `/** @file A file. */
export function bare(): void {}
/** What it does. */
export async function told(): Promise<void> {}
/** Two ways. */
export function twice(a: string): void;
export function twice(a: number): void;
export class Plain {}
`;
		expect(docFaults([file('core/b.ts', text), file('core/c.ts', 'const a = 1;\n')])).toEqual([
			'core/b.ts:2 bare has no docstring',
			'core/b.ts:8 Plain has no docstring',
			'core/c.ts does not begin with @file',
		]);
	});

	it('find long files, any, and Node’s globals, in code alone', () => {
		const text = `// as any
const a: any = 1;
const b = 'x: any';
const c = [] as any[];
/** process.env, f(any) */
function f(g: (h: any) => void, any: number): Map<string, any> { return a.any(any, c); }
`;
		expect(styleFaults([file('core/b.ts', text), file('core/c.ts', '\n'.repeat(501))])).toEqual([
			'core/b.ts:2 uses any',
			'core/b.ts:4 uses any',
			'core/b.ts:6 uses any',
			'core/c.ts has 501 lines, more than 500',
		]);
		const globals = [
			`const n = process.env.X;`,
			`const { process } = a; a.process.b; // process.c`,
			`const s = 'Buffer.from'; type T = { process: 1 };`,
		];
		expect(globalFaults(globals.map((t, i) => file(`core/${i}.ts`, t)))).toEqual(['core/0.ts uses process.env']);
		expect(globalFaults([file('io/b.ts', globals[0]!)])).toEqual([]);
	});
});
