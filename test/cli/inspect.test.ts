/** @file The inspect command on small folders and files written here. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zeros } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { writeOnnx } from '../../src/graph/onnx/index.ts';
import { writeJson } from '../../src/io/json-file.ts';
import { writeModelFolder, writePipelineIndex } from '../../src/io/model-folder.ts';
import { type NamedTensor, writeSafetensors } from '../../src/io/safetensors.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { encodeModel, input, node } from '../graph/onnx/models.ts';
import { runCli } from './context.ts';

const className = 'DiTTransformer2DModel';
/** 4 wide, 4 x 4 pixels in 2 x 2 tokens, 3 classes. */
const small = {
	num_attention_heads: 2,
	attention_head_dim: 2,
	in_channels: 1,
	num_layers: 1,
	sample_size: 4,
	patch_size: 2,
	num_embeds_ada_norm: 3,
};
const { chain, config } = createDenoiser(className, small);
const tensors = [...traceChain(chain, 1).parameters.values()].map(
	(p): NamedTensor => ({ name: p.name, dtype: 'float32', shape: p.shape, data: zeros('float32', p.shape).data }),
);

/** Weights and biases by hand, from the published architecture: width 4, patch 4 values, timestep features 256, hidden width 16. */
const expected = {
	pos_embed: 4 * 4 + 4,
	block: 256 * 4 + 4 + (4 * 4 + 4) + 4 * 4 + (4 * 24 + 24) + 4 * (4 * 4 + 4) + (4 * 16 + 16) + (16 * 4 + 4),
	proj_out: 4 * 8 + 8 + (4 * 4 + 4),
};
const total = expected.pos_embed + expected.block + expected.proj_out;

let cwd: string;
async function json(...argv: string[]) {
	const { code, out, err } = await runCli(['inspect', ...argv, '--json'], { cwd });
	expect(err).toBe('');
	expect(code).toBe(0);
	return JSON.parse(out);
}
async function lines(...argv: string[]) {
	const { out } = await runCli(['inspect', ...argv], { cwd });
	return out.trimEnd().split('\n');
}

/** A pipeline of the small model in `dir`. */
async function writePipeline(dir: string): Promise<void> {
	await mkdir(join(dir, 'scheduler'), { recursive: true });
	await writeModelFolder(join(dir, 'transformer'), config, tensors);
	await writeJson(join(dir, 'scheduler', 'scheduler_config.json'), { _class_name: 'DDPMScheduler' });
	const parts = { transformer: ['diffusers', className], scheduler: ['diffusers', 'DDPMScheduler'], vae: null } as const;
	await writePipelineIndex(dir, { className: 'DiTPipeline', diffusersVersion: undefined, parts, options: {} });
}

beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'inspect-'));
	await writeModelFolder(join(cwd, 'model'), config, tensors);
	const bent = tensors.slice(1).map((t, i) => (i === 0 ? { ...t, shape: [1, t.shape.reduce((a, b) => a * b, 1)] } : t));
	await writeModelFolder(join(cwd, 'bent'), config, [...bent, { name: 'extra', dtype: 'float16', shape: [2], data: new Uint16Array(2) }]);
	await writeModelFolder(join(cwd, 'other'), { _class_name: 'SomeModel', width: 3 }, [
		{ name: 'w', dtype: 'bfloat16', shape: [3, 2], data: new Uint16Array(6) },
	]);
	await writePipeline(join(cwd, 'pipeline'));
	for (const step of [10, 20]) {
		const dir = join(cwd, 'run', 'checkpoints', `step-000000${step}`);
		await writePipeline(dir);
		await mkdir(join(dir, 'training'));
		await writeJson(join(dir, 'training', 'state.json'), { version: 1, step, cuts: [2], config: { seed: 5, train: { max_steps: 30 } } });
	}
	await writeJson(join(cwd, 'run', 'config.json'), { model: {} });
	await mkdir(join(cwd, 'empty'));
	await mkdir(join(cwd, 'new-run', 'checkpoints'), { recursive: true });
	await writeFile(join(cwd, 'notes.txt'), 'x');
	await writeFile(join(cwd, 'old.ckpt'), 'x');
	await writeJson(join(cwd, 'nameless.json'), { a: 1 });

	const g = createBuilder('two');
	const x = g.input('x', 'float32', [2, 3]);
	const y = g.relu(g.add(g.matMul(x, g.constant(zeros('float32', [3, 4]), 'w')), 1));
	await writeFile(join(cwd, 'graph.onnx'), writeOnnx(g.finish([g.relu(y)])));
	const free = encodeModel({ inputs: [input('a', 1, ['batch', 5])], nodes: [node('Relu', ['a'], ['b'])], outputs: ['b'] });
	await writeFile(join(cwd, 'free.onnx'), free);
});
afterAll(() => rm(cwd, { recursive: true }));

describe('models', () => {
	it('are counted by layer, as by hand', async () => {
		const document = await json('model');
		expect(document).toMatchObject({
			kind: 'model',
			class: className,
			parameters: total,
			bytes: 4 * total,
			missing: [],
			unknown: [],
			misshapen: [],
		});
		expect(document.layers.map((l: { name: string; parameters: number }) => [l.name, l.parameters])).toEqual([
			['pos_embed', expected.pos_embed],
			['transformer_blocks.0', expected.block],
			['proj_out', expected.proj_out],
		]);
		// 4 tokens: patches 4 x (4 x 4); output modulation 4 x 8 once and 4 x (4 x 4).
		expect(document.layers[0].macs).toBe(4 * 16);
		expect(document.layers[2].macs).toBe(32 + 4 * 16);
		// Timestep 256 x 4 + 4 x 4, modulation 4 x 24, four projections, attention twice 4 x 4 x 4, feed-forward twice 4 x 64.
		expect(document.layers[1].macs).toBe(1024 + 16 + 96 + 4 * 64 + 2 * 64 + 2 * 256);
		expect(document.weights).toMatchObject({
			tensors: tensors.length,
			parameters: total,
			bytes: 4 * total,
			types: { F32: tensors.length },
		});
	});

	it('read the same from config.json alone, without weights', async () => {
		const document = await json('model/config.json');
		expect(document).toMatchObject({ kind: 'model', parameters: total });
		expect(document.weights).toBeUndefined();
		expect((await lines('model/config.json')).at(-1)).toMatch(/^ {2}all +1\.\d+ k /);
	});

	it('say which weights do not fit', async () => {
		const document = await json('bent');
		expect(document).toMatchObject({ missing: [tensors[0]!.name], unknown: ['extra'], misshapen: [tensors[1]!.name] });
		expect((await lines('bent')).slice(-3)).toEqual([
			`missing from the weights: ${tensors[0]!.name}`,
			'in the weights, not in the model: extra',
			`of another shape than in the model: ${tensors[1]!.name}`,
		]);
	});

	it('of a class we do not know show config and weights', async () => {
		const document = await json('other');
		expect(document).toMatchObject({ class: 'SomeModel', config: { width: 3 }, weights: { tensors: 1, bytes: 12, types: { BF16: 1 } } });
		expect((await lines('other')).at(-1)).toContain('layers are not shown');
	});
});

describe('pipelines, checkpoints and runs', () => {
	it('show their parts', async () => {
		const document = await json('pipeline');
		expect(document).toMatchObject({ kind: 'pipeline', class: 'DiTPipeline' });
		expect(document.parts.transformer.parameters).toBe(total);
		expect(document.parts.scheduler).toMatchObject({ kind: 'scheduler', config: { _class_name: 'DDPMScheduler' } });
		expect(await json('pipeline/model_index.json')).toEqual(document);
		expect(await lines('pipeline')).toContain('vae: none');
	});

	it('show step, config and files of a checkpoint', async () => {
		const document = await json('run/checkpoints/step-00000010');
		expect(document).toMatchObject({ kind: 'checkpoint', step: 10, cuts: [2], config: { seed: 5 } });
		const names = document.files.map((f: { name: string }) => f.name);
		expect(names).toContain(join('training', 'state.json'));
		expect(names).toContain(join('transformer', 'diffusion_pytorch_model.safetensors'));
		const text = await lines('run/checkpoints/step-00000010');
		expect(text[0]).toMatch(/checkpoint of step 10 \(DiTPipeline\)$/);
		expect(text).toContain('  max_steps = 30');
	});

	it('take the newest checkpoint of a run, and its pipeline once finished', async () => {
		const document = await json('run');
		expect(document).toMatchObject({ kind: 'run', finished: false, checkpoints: [10, 20], model: { kind: 'checkpoint', step: 20 } });
		await writePipeline(join(cwd, 'run', 'pipeline'));
		expect(await json('run')).toMatchObject({ kind: 'run', finished: true, checkpoints: [10, 20], model: { kind: 'pipeline' } });
	});
});

describe('files', () => {
	it('list tensors of safetensors', async () => {
		await writeSafetensors(join(cwd, 't.safetensors'), [{ name: 'a', dtype: 'float32', shape: [2, 3], data: new Float32Array(6) }], {
			format: 'pt',
		});
		expect(await json('t.safetensors')).toMatchObject({
			kind: 'weights',
			tensors: 1,
			parameters: 6,
			bytes: 24,
			metadata: { format: 'pt' },
			list: [{ name: 'a', type: 'F32', shape: [2, 3], bytes: 24 }],
		});
		expect((await lines('t.safetensors')).slice(1)).toEqual(['metadata', '  format: pt', '  a  F32  [2, 3]  24 B']);
	});

	it('count the operators of a graph', async () => {
		const document = await json('graph.onnx');
		expect(document).toMatchObject({
			kind: 'graph',
			name: 'two',
			inputs: [{ name: 'x', dtype: 'float32', shape: [2, 3] }],
			nodes: 4,
			operators: { Relu: 2, Add: 1, MatMul: 1 },
			constantBytes: 4 * (12 + 1),
			macs: 2 * 3 * 4,
		});
		expect(document.outputs[0].shape).toEqual([2, 4]);
		expect(document.text).toBeUndefined();
	});

	it('print a graph with --text', async () => {
		const text = await lines('graph.onnx', '--text');
		expect(text[0]).toBe('graph two');
		expect(text.some((line) => line.includes('= MatMul(x, w)'))).toBe(true);
		expect((await json('graph.onnx', '--text')).text).toContain('graph two');
	});

	it('take sizes of symbolic dimensions', async () => {
		const { code, err } = await runCli(['inspect', 'free.onnx'], { cwd });
		expect(code).toBe(2);
		expect(err).toContain('batch');
		expect(await json('free.onnx', '--dim', 'batch=7')).toMatchObject({ inputs: [{ name: 'a', shape: [7, 5] }] });
	});
});

describe('what cannot be inspected', () => {
	it.each([
		['missing', 'cannot open'],
		['empty', 'holds nothing to inspect'],
		['new-run', 'has saved nothing yet'],
		['notes.txt', 'is no kind of file'],
		['old.ckpt', 'convert it to safetensors'],
		['nameless.json', 'names no model class'],
	])('%s', async (path, message) => {
		const { code, out, err } = await runCli(['inspect', path], { cwd });
		expect(code).toBe(2);
		expect(out).toBe('');
		expect(err).toContain(message);
	});

	it.each(['batch', 'batch=', 'batch=0', 'batch=two', '=2'])('--dim %s', async (dim) => {
		const { code, err } = await runCli(['inspect', 'free.onnx', '--dim', dim], { cwd });
		expect(code).toBe(2);
		expect(err).toContain('expected: --dim batch=1');
	});
});
