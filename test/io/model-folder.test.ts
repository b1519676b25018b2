import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { readModelFolder, readPipelineIndex, writeModelFolder, writePipelineIndex } from '../../src/io/model-folder.ts';
import type { NamedTensor } from '../../src/io/safetensors.ts';
import { openSharded } from '../../src/io/safetensors-sharded.ts';

let dir = '';
beforeEach(() => {
	dir = join(mkdtempSync(join(tmpdir(), 'model-')), 'unet');
});
afterEach(() => rmSync(join(dir, '..'), { recursive: true, force: true }));

const config = { _class_name: 'UNet2DModel', sample_size: 8 };
const tensors: NamedTensor[] = ['conv_in.weight', 'conv_in.bias', 'conv_out.weight'].map((name, i) => ({
	name,
	dtype: 'float32',
	shape: [2, 2],
	data: Float32Array.of(i, i + 1, i + 2, i + 3),
}));

async function inputError(promise: Promise<unknown>): Promise<string> {
	const error = await promise.catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind).toBe('input');
	return (error as DiffusionPipeError).message;
}

test('config and weights come back, in one file as diffusers names it', async () => {
	await writeModelFolder(dir, config, tensors);
	expect(readdirSync(dir).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
	const model = await readModelFolder(dir);
	expect(model.config).toEqual(config);
	expect(model.weights.metadata).toEqual({ format: 'pt' });
	expect(model.weights.names).toEqual(tensors.map((t) => t.name));
	expect((await model.weights.read('conv_out.weight')).data).toEqual(Float32Array.of(2, 3, 4, 5));
	await model.weights.close();
});

test('an existing folder is replaced only when asked', async () => {
	await writeModelFolder(dir, config, tensors, { maxShardBytes: 16 });
	expect(await inputError(writeModelFolder(dir, config, tensors))).toMatch(/is there already/);
	await writeModelFolder(dir, config, tensors, { replace: true });
	expect(readdirSync(dir).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
});

test('large weights are split into shards with an index, also of a variant', async () => {
	await writeModelFolder(dir, config, tensors, { maxShardBytes: 33, base: 'model', variant: 'fp16' });
	expect(readdirSync(dir).sort()).toEqual([
		'config.json',
		'model.fp16-00001-of-00002.safetensors',
		'model.fp16-00002-of-00002.safetensors',
		'model.safetensors.index.fp16.json',
	]);
	expect(JSON.parse(readFileSync(join(dir, 'model.safetensors.index.fp16.json'), 'utf8'))).toEqual({
		metadata: { total_size: 48 },
		weight_map: {
			'conv_in.bias': 'model.fp16-00001-of-00002.safetensors',
			'conv_in.weight': 'model.fp16-00001-of-00002.safetensors',
			'conv_out.weight': 'model.fp16-00002-of-00002.safetensors',
		},
	});
	const { weights, weightsFile } = await readModelFolder(dir, { variant: 'fp16' });
	expect(weightsFile).toBe('model.safetensors.index.fp16.json');
	expect([...weights.names].sort()).toEqual(tensors.map((t) => t.name).sort());
	for (const { name, data } of tensors) {
		expect((await weights.read(name)).data).toEqual(data);
		expect(weights.readSync(name).data).toEqual(data);
		expect(weights.info(name).shape).toEqual([2, 2]);
	}
	await expect(weights.read('conv_mid.weight')).rejects.toThrow(/no tensor named "conv_mid.weight"/);
	await weights.close();
});

test('a tensor larger than a shard gets one of its own', async () => {
	await writeModelFolder(dir, config, tensors, { maxShardBytes: 1 });
	expect(readdirSync(dir).filter((name) => name.endsWith('.safetensors'))).toHaveLength(3);
});

test('what is missing is said, with what to do', async () => {
	expect(await inputError(readModelFolder(dir))).toContain(dir);
	mkdirSync(dir);
	writeFileSync(join(dir, 'model_index.json'), '{}');
	expect(await inputError(readModelFolder(dir))).toMatch(/holds no config.json.*this is a pipeline: give one of its parts/s);
	rmSync(dir, { recursive: true });

	await writeModelFolder(dir, config, tensors, { variant: 'fp16' });
	expect(await inputError(readModelFolder(dir))).toMatch(/holds no weights.*ask for the variant "fp16"/s);
	expect(await inputError(readModelFolder(dir, { variant: 'bf16' }))).toMatch(/no weights of variant "bf16".*"fp16"/s);
	renameSync(join(dir, 'diffusion_pytorch_model.fp16.safetensors'), join(dir, 'diffusion_pytorch_model.bin'));
	expect(await inputError(readModelFolder(dir))).toMatch(/convert the pickled weights/);

	await writeModelFolder(dir, config, tensors, { replace: true });
	writeFileSync(join(dir, 'config.json'), '{"a":');
	expect(await inputError(readModelFolder(dir))).toMatch(/config\.json: is not JSON/);
});

test('a broken index names the index', async () => {
	await writeModelFolder(dir, config, tensors, { maxShardBytes: 16 });
	const index = join(dir, 'diffusion_pytorch_model.safetensors.index.json');
	const good = JSON.parse(readFileSync(index, 'utf8'));
	const attempt = async (content: unknown): Promise<string> => {
		writeFileSync(index, JSON.stringify(content));
		return inputError(openSharded(index));
	};
	expect(await attempt([])).toMatch(/index\.json: holds no object/);
	expect(await attempt({ metadata: {} })).toMatch(/weight_map is missing/);
	expect(await attempt({ weight_map: { a: '../../secret.safetensors' } })).toMatch(/weight_map names no file for "a"/);
	expect(await attempt({ weight_map: { a: 7 } })).toMatch(/weight_map names no file for "a"/);
	expect(await attempt({ weight_map: { ...good.weight_map, extra: good.weight_map['conv_in.bias'] } })).toMatch(
		/tensor "extra" is not in the file/,
	);
	writeFileSync(index, JSON.stringify(good));
	rmSync(join(dir, 'diffusion_pytorch_model-00003-of-00003.safetensors'));
	expect(await inputError(openSharded(index))).toMatch(/00003-of-00003\.safetensors: cannot open/);
});

test('model_index.json round trip, and errors that name it', async () => {
	const index = {
		className: 'StableDiffusionPipeline',
		diffusersVersion: '0.35.0',
		parts: { unet: ['diffusers', 'UNet2DConditionModel'], safety_checker: null } as const,
		options: { requires_safety_checker: false },
	};
	await writePipelineIndex(dir, index);
	const path = join(dir, 'model_index.json');
	expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({
		_class_name: 'StableDiffusionPipeline',
		_diffusers_version: '0.35.0',
		requires_safety_checker: false,
		unet: ['diffusers', 'UNet2DConditionModel'],
		safety_checker: [null, null],
	});
	expect(await readPipelineIndex(dir)).toEqual(index);
	for (const [content, reason] of [
		['nonsense', /model_index\.json: is not JSON/],
		['[]', /model_index\.json: holds no object/],
		['{}', /_class_name is missing/],
		['{"_class_name":"P","unet":["diffusers"]}', /part "unet" is malformed/],
	] as const) {
		writeFileSync(path, content);
		expect(await inputError(readPipelineIndex(dir))).toMatch(reason);
	}
	rmSync(path);
	expect(await inputError(readPipelineIndex(dir))).toMatch(/model_index\.json: cannot read/);
});
