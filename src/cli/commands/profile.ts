/** @file `diffusionpipe profile`: what every layer of a job costs, measured here or by the numbers of an accelerator. */
import { resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';
import { presetNames } from '../presets.ts';

const options = {
	accelerator: { kind: 'text', value: 'name', summary: 'Compute for this accelerator in place of measuring, as A100-80 or H100' },
	batchSizes: { kind: 'text', value: '1,2,4', summary: 'Samples on one device, ascending; powers of two unless given' },
	out: { kind: 'text', value: 'p.json', summary: 'Write the profile there, for `plan`' },
	precision: { kind: 'text', value: 'mixed|float32', summary: 'With --accelerator: numbers of 16 or of 32 bits; mixed unless given' },
	repeats: { kind: 'integer', value: 'n', min: 1, summary: 'Runs of each layer, of which the median counts; 5 unless given' },
	set: { kind: 'list', value: 'key=value', summary: 'Change one key of the config, as model.sample_size=32; may be repeated' },
} as const;

export const profile = defineCommand({
	name: 'profile',
	summary: 'Say what each layer of a training job costs, measured or computed',
	usage: '<preset|config.toml|job>',
	options,
	details: () => [
		`  presets: ${presetNames().join(', ')}`,
		'  jobs: sd21, sdxl, controlnet, cdm-lsun, cdm-imagenet, dit-xl, sd3, flux',
		'  accelerators: A100-40, A100-80, H100, H200, L40, RTX 4090, V100',
	],
	examples: [
		['profile emoji --out emoji.json', 'measures the layers of a preset on this machine; `plan --profile emoji.json` plans it'],
		['profile sd21 --accelerator A100-80 --batch-sizes 8,16,32', 'computes what Stable Diffusion 2.1 takes on an accelerator'],
		['profile my.toml --json', 'writes the profile as JSON, for another program'],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const name = positional[0]!;
	const precision = readPrecision(given.precision, given.accelerator);
	const batchSizes = given.batchSizes === undefined ? undefined : readBatchSizes(given.batchSizes);
	const { computedProfile, measuredProfile, profileLines } = await import('../profile/index.ts');
	const source = { name, sets: given.set, cwd: context.cwd };
	const result =
		given.accelerator === undefined
			? await measuredProfile(source, {
					...(batchSizes === undefined ? {} : { batchSizes }),
					...(given.repeats === undefined ? {} : { repeats: given.repeats }),
					note: console.note,
				})
			: await computedProfile(source, given.accelerator, { ...(batchSizes === undefined ? {} : { batchSizes }), precision });
	console.json(result);
	console.print(...profileLines(result));
	if (given.out !== undefined) {
		const { writeJson } = await import('../../io/json-file.ts');
		await writeJson(resolve(context.cwd, given.out), result);
		console.note(`wrote ${given.out}`);
	}
	return 'done';
}

/** `1,2,4` to numbers. */
function readBatchSizes(text: string): number[] {
	const sizes = text.split(',').map(Number);
	if (sizes.some((n, i) => !Number.isSafeInteger(n) || n < 1 || n <= (sizes[i - 1] ?? 0))) {
		throw new DiffusionPipeError('usage', 'are no batch sizes', {
			place: '--batch-sizes',
			expected: 'whole numbers from 1, each larger than the one before, as 1,2,4',
			found: text,
		});
	}
	return sizes;
}

function readPrecision(text: string | undefined, accelerator: string | undefined): 'mixed' | 'float32' {
	if (text !== undefined && accelerator === undefined) {
		throw new DiffusionPipeError('usage', 'says nothing without --accelerator', {
			place: '--precision',
			hint: 'what is measured here is float32',
		});
	}
	if (text === undefined || text === 'mixed' || text === 'float32') return text ?? 'mixed';
	throw new DiffusionPipeError('usage', 'is no precision', { place: '--precision', expected: 'mixed or float32', found: text });
}
