/** @file `sample_config.json` of a pipeline folder: how its pictures are drawn where nobody says otherwise. diffusers has no such file, and leaves it unread. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { readJsonObject, writeJson } from './json-file.ts';

/** What a run drew its samples with; left out, the value that the pipeline's class is published with holds. */
export interface SampleConfig {
	readonly steps?: number;
	readonly guidanceScale?: number;
}

const fileName = 'sample_config.json';

/** Keys of the file, which are those of the table `[sample]` of a training config. */
const keys = {
	steps: { key: 'steps', expected: 'a whole number above 0', fits: (n: number) => Number.isSafeInteger(n) && n > 0 },
	guidanceScale: { key: 'guidance_scale', expected: 'a number from 0', fits: (n: number) => Number.isFinite(n) && n >= 0 },
} as const;
type Name = keyof typeof keys;
const names = Object.keys(keys) as Name[];

/** Writes the file into the folder `dir`. */
export async function writeSampleConfig(dir: string, config: SampleConfig): Promise<void> {
	await writeJson(join(dir, fileName), Object.fromEntries(names.map((name) => [keys[name].key, config[name]])));
}

/** Reads the file of the folder `dir`; nothing where there is none. Throws an input error naming a key of a wrong value. */
export async function readSampleConfig(dir: string): Promise<SampleConfig> {
	if (!(await readdir(dir)).includes(fileName)) return {};
	const file = join(dir, fileName);
	const content = await readJsonObject(file);
	const found: { -readonly [N in Name]?: number } = {};
	for (const name of names) {
		const { key, expected, fits } = keys[name];
		const value = content[key];
		if (value === undefined) continue;
		if (typeof value !== 'number' || !fits(value))
			throw new DiffusionPipeError('input', 'has a wrong value', { place: `${file}: ${key}`, expected, found: JSON.stringify(value) });
		found[name] = value;
	}
	return found;
}
