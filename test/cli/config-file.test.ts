/** @file Configs: which file is read, what --set changes and refuses, and the presets. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTraining } from '../../src/cli/config-file.ts';
import { presetNames, presetPath } from '../../src/cli/presets.ts';
import { applySets, readValue } from '../../src/cli/set-keys.ts';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { samplerConfig } from '../../src/diffusion/samplers/index.ts';
import { createDenoiser } from '../../src/models/index.ts';

const loadConfig = async (...what: Parameters<typeof loadTraining>) => (await loadTraining(...what)).config;

const smallest = '[model]\ntype = "M"\n[scheduler]\ntype = "S"\n[data]\ntype = "mnist"\n[train]\nmax_steps = 5\nbatch_size = 4\n';
let folder: string;
beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), 'config-'));
	await writeFile(join(folder, 'a.toml'), smallest);
	await writeFile(join(folder, 'plain'), smallest);
	await writeFile(join(folder, 'broken.toml'), '[train]\nmax_steps = = 5\n');
	await mkdir(join(folder, 'mnist'));
});
afterAll(() => rm(folder, { recursive: true }));

const failure = async (promise: Promise<unknown>): Promise<DiffusionPipeError> => {
	const error = await promise.then(
		() => undefined,
		(e: unknown) => e,
	);
	if (error instanceof DiffusionPipeError) return error;
	throw new Error(`no DiffusionPipeError but ${error}`);
};

describe('which file', () => {
	it('reads a TOML file relative to the working folder and fills defaults in', async () => {
		const config = await loadConfig('a.toml', [], folder);
		expect(config.train).toMatchObject({ max_steps: 5, batch_size: 4, gradient_clipping: 1 });
		expect(config.output_dir).toBe('runs/run');
		expect(await loadConfig(join(folder, 'a.toml'), [], '/')).toEqual(config);
		expect(await loadConfig('plain', [], folder)).toEqual(config);
	});

	it('takes a bare name as a preset, also beside a folder of that name', async () => {
		expect((await loadConfig('mnist', [], folder)).data.type).toBe('mnist');
	});

	it('lists the presets for a name that is none, and the nearest', async () => {
		const { kind, parts } = await failure(loadConfig('mnits', [], folder));
		expect(kind).toBe('config');
		expect(parts.expected).toContain('mnist');
		expect(parts.hint).toBe('did you mean mnist?');
	});

	it('names a missing file', async () => {
		const { kind, parts } = await failure(loadConfig('none/b.toml', [], folder));
		expect(kind).toBe('input');
		expect(parts.place).toBe('none/b.toml');
	});

	it('gives file, line and column of a TOML mistake', async () => {
		const { kind, parts } = await failure(loadConfig('broken.toml', [], folder));
		expect(kind).toBe('config');
		expect(parts.place).toBe(`${join(folder, 'broken.toml')}:2:13`);
		expect(parts.found).toContain('max_steps = = 5');
	});
});

describe('--set', () => {
	it('changes, adds and makes tables, the later over the earlier', async () => {
		const sets = [
			'train.max_steps=7',
			'train.max_steps=8',
			'optimizer.lr=1e-3',
			'optimizer.betas=[0.8, 0.9]',
			'output_dir=runs/x',
			'seed=3',
		];
		const config = await loadConfig('a.toml', sets, folder);
		expect(config.train.max_steps).toBe(8);
		expect(config.optimizer).toMatchObject({ lr: 0.001, betas: [0.8, 0.9] });
		expect(config).toMatchObject({ output_dir: 'runs/x', seed: 3 });
	});

	it('leaves the keys of models, schedulers and data to their readers', async () => {
		const config = await loadConfig(
			'a.toml',
			['model.num_layers=2', 'scheduler.shift=3.0', 'data.path=my pictures', 'model.a.b=true'],
			folder,
		);
		expect(config.model).toMatchObject({ type: 'M', num_layers: 2, a: { b: true } });
		expect(config.scheduler).toMatchObject({ shift: 3 });
		expect(config.data).toMatchObject({ path: 'my pictures' });
	});

	it('does not change the document it is given', () => {
		const raw = { train: { max_steps: 1 } };
		expect(applySets(raw, ['train.max_steps=2'])).toEqual({ train: { max_steps: 2 } });
		expect(raw.train.max_steps).toBe(1);
	});

	it.each([
		['12', 12],
		['1.5', 1.5],
		['true', true],
		['"12"', '12'],
		['[1, 2]', [1, 2]],
		['{ a = 1 }', { a: 1 }],
		['cosine', 'cosine'],
		['runs/a b', 'runs/a b'],
		['', ''],
		['2024-01-01', '2024-01-01'],
		['1\nother = 2', '1\nother = 2'],
		['a=b', 'a=b'],
	])('reads the value %j', (text, value) => {
		expect(readValue(text)).toEqual(value);
	});

	it.each([
		['train.max_step=5', 'did you mean train.max_steps?'],
		['lr=5', 'did you mean optimizer.lr?'],
		['train.lr=5', 'did you mean optimizer.lr?'],
		['optimiser.lr=5', 'did you mean optimizer.lr?'],
		['outputdir=5', 'did you mean output_dir?'],
		['train.max_steps.more=5', 'did you mean train.max_steps?'],
		['model=5', undefined],
		['model.__proto__.x=5', undefined],
		['model..x=5', undefined],
		['constructor.name=5', undefined],
	])('refuses the key of %s', (set, hint) => {
		try {
			applySets({ model: { type: 'M' } }, [set]);
		} catch (error) {
			expect(error).toBeInstanceOf(DiffusionPipeError);
			const { kind, parts } = error as DiffusionPipeError;
			expect(kind).toBe('config');
			expect(parts.place).toBe(`--set ${set.slice(0, set.indexOf('='))}`);
			if (hint !== undefined) expect(parts.hint).toBe(hint);
			return;
		}
		throw new Error('accepted');
	});

	it('refuses what has no key, and a table where a value stands', () => {
		expect(() => applySets({}, ['train.max_steps'])).toThrow('expected: --set table.key=value');
		expect(() => applySets({}, ['=5'])).toThrow('is not a key and a value');
		expect(() => applySets({ model: { a: 3 } }, ['model.a.b=5'])).toThrow('model.a: is a value, not a table');
	});

	it('has wrong values refused by the config', async () => {
		const { parts } = await failure(loadConfig('a.toml', ['train.max_steps=soon'], folder));
		expect(parts).toMatchObject({ place: 'train.max_steps', expected: 'number', found: '"soon"' });
	});
});

describe('presets', () => {
	it.each(presetNames())('%s is a config whose model and scheduler can be built, with every line explained', async (name) => {
		const config = await loadConfig(name, [], folder);
		const lines = (await readFile(presetPath(name), 'utf8')).split('\n');
		expect(lines.filter((line) => line !== '' && !line.includes('#'))).toEqual([]);
		expect(config.output_dir).toBe(`runs/${name}`);
		const { type: modelClass, ...model } = config.model;
		const denoiser = createDenoiser(modelClass, model, 'model');
		expect(denoiser.chain.layers.length).toBeGreaterThanOrEqual(config.parallel.pipeline_stages);
		const { type: schedulerClass, ...scheduler } = config.scheduler;
		expect(samplerConfig(schedulerClass, scheduler)._class_name).toBe(schedulerClass);
	});
});
