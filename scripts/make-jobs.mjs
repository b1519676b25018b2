/**
 * @file Makes src/plan/analytic/data/: the work of the published jobs by layer, from tracing their models. After `npm run build`:
 *
 *   node scripts/make-jobs.mjs [job...]
 */
import { writeFile } from 'node:fs/promises';
import { jobWork } from '../dist/plan/analytic/chain-work.js';
import { jobChains } from '../dist/plan/analytic/jobs/index.js';
import { formatWork } from '../dist/plan/analytic/table.js';

const given = process.argv.slice(2);
for (const name of given.length > 0 ? given : Object.keys(jobChains)) {
	const constant = name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
	const text = [
		`/** @file Work of job ${name} by layer; written by scripts/make-jobs.mjs in the form that table.ts explains. */`,
		`export const ${constant} = \`${formatWork(jobWork(jobChains[name]()))}\`;`,
	];
	const file = new URL(`../src/plan/analytic/data/${name}.ts`, import.meta.url);
	await writeFile(file, `${text.join('\n')}\n`);
	console.log(`${name}: ${text[1].split('\n').length} lines`);
}
