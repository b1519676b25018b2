/**
 * @file `npm run bench -- NAME [--quick]`: runs bench/NAME.mjs on the built package, prints its table and writes
 * bench/results/NAME.json.
 *
 * A bench is a module with `title` (one line) and `run({ quick, log, args })`, which resolves with `rows` (objects with the same
 * keys) and `figures` (numbers by name). `--quick` asks for fewer repeats; other arguments are passed on.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeResult } from './lib/results.mjs';
import { table } from './lib/table.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const names = readdirSync(here)
	.filter((file) => file.endsWith('.mjs') && file !== 'run.mjs')
	.map((file) => file.slice(0, -4))
	.sort();

async function list() {
	const titles = await Promise.all(names.map(async (name) => `  ${name.padEnd(14)} ${(await import(`./${name}.mjs`)).title}`));
	return `benches:\n${titles.join('\n')}`;
}

async function main([name, ...args]) {
	if (!existsSync(new URL('../dist/index.js', import.meta.url))) throw new Error('dist is not there; run `npm run build` first');
	if (name === undefined || !names.includes(name)) {
		console.error(
			`${name === undefined ? 'name a bench' : `no bench is called ${name}`}: npm run bench -- NAME [--quick]\n${await list()}`,
		);
		return 2;
	}
	const quick = args.includes('--quick');
	const bench = await import(`./${name}.mjs`);
	const result = await bench.run({ quick, log: (text) => console.error(text), args: args.filter((a) => a !== '--quick') });
	const file = writeResult(name, ['npm run bench --', name, ...args].join(' '), result);
	console.log(`${bench.title}\n\n${table(result.rows)}\n`);
	for (const [key, value] of Object.entries(result.figures)) console.log(`${key} = ${value}`);
	console.log(`\nwritten to ${file}`);
	return 0;
}

// Ends the process outright: a bench that failed may leave threads and peers behind.
main(process.argv.slice(2)).then(
	(code) => process.exit(code),
	(error) => {
		console.error(error.stack ?? String(error));
		process.exit(1);
	},
);
