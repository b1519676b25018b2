/** @file Result files: bench/results/NAME.json. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describeMachine } from './machine.mjs';

/** Writes a bench's rows and figures with the machine they were taken on; returns the file's path. */
export function writeResult(name, command, { rows, figures }) {
	const folder = new URL('../results/', import.meta.url);
	mkdirSync(folder, { recursive: true });
	const file = new URL(`${name}.json`, folder);
	const result = { name, command, date: new Date().toISOString(), machine: describeMachine(), rows, figures };
	writeFileSync(file, `${JSON.stringify(result, null, '\t')}\n`);
	return fileURLToPath(file);
}
