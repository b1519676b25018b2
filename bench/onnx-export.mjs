/**
 * @file Exported models in ONNX Runtime outside this project: its JavaScript interface and Python's, against the local engine.
 *
 * Python's is run where the interpreter of `DIFFUSIONPIPE_PYTHON` (else .venv) has onnxruntime, numpy and safetensors; the row says so where not.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { openForward } from '../dist/engine/local/forward.js';
import { readSafetensors, writeSafetensors } from '../dist/io/safetensors.js';
import { ditChain, readDiTConfig } from '../dist/models/dit.js';
import { traceChain } from '../dist/nn/chain.js';
import { chainToOnnx } from '../dist/nn/export.js';
import { normalNumbers } from './lib/dit-training.mjs';
import { pythonPath } from './lib/peer.mjs';
import { significant } from './lib/stats.mjs';

export const title = 'Exported models in ONNX Runtime for JavaScript and Python: the numbers of the local engine?';

const models = [
	{ name: 'DiT-S/2, 32 x 32 latents', num_attention_heads: 6, attention_head_dim: 64, num_layers: 12, sample_size: 32, batch: 1 },
	{ name: 'DiT of 4 layers, 16 x 16', num_attention_heads: 4, attention_head_dim: 32, num_layers: 4, sample_size: 16, batch: 4 },
];

/** Inputs of the model and seeded weights of every parameter, adaptive norms included, which training would start at zero. */
function setUp({ name, batch, ...config }) {
	const chain = ditChain(readDiTConfig({ ...config, in_channels: 4, num_embeds_ada_norm: 10 }));
	const size = (shape) => shape.reduce((n, d) => n * d, 1);
	const weights = new Map(
		[...traceChain(chain, batch).parameters.values()].map(({ name: p, shape }, seed) => [
			p,
			{ dtype: 'float32', shape, data: normalNumbers(size(shape), seed, 0.02) },
		]),
	);
	const image = [batch, ...chain.inputs.hidden_states.shape];
	const inputs = {
		hidden_states: { dtype: 'float32', shape: image, data: normalNumbers(size(image), 1000) },
		timestep: { dtype: 'float32', shape: [batch], data: Float32Array.from({ length: batch }, (_, i) => 100 * (i + 1)) },
		class_labels: { dtype: 'int64', shape: [batch], data: BigInt64Array.from({ length: batch }, (_, i) => BigInt(i)) },
	};
	return { name, batch, chain, weights, inputs };
}

async function onEngine({ chain, batch, weights, inputs }) {
	const forward = await openForward(chain, { batch });
	try {
		await forward.setWeights((name) => weights.get(name).data);
		return (await forward.run(inputs)).sample.data;
	} finally {
		await forward.close();
	}
}

async function inJavaScript(model, inputs) {
	const session = await InferenceSession.create(model);
	const feeds = Object.entries(inputs).map(([name, t]) => [name, new Tensor(t.dtype, t.data, t.shape)]);
	return (await session.run(Object.fromEntries(feeds))).sample.data;
}

/** Python's results and version, or why there are none. */
async function inPython(model, inputs) {
	const folder = await mkdtemp(join(tmpdir(), 'diffusionpipe-onnx-'));
	try {
		await writeFile(join(folder, 'model.onnx'), model);
		await writeSafetensors(
			join(folder, 'inputs.safetensors'),
			Object.entries(inputs).map(([name, t]) => ({ name, ...t })),
		);
		const script = fileURLToPath(new URL('torch/onnx_run.py', import.meta.url));
		const { stdout } = await promisify(execFile)(pythonPath(), [script, folder]);
		const { missing, version } = JSON.parse(stdout);
		if (missing) return { missing: `${missing} is not installed` };
		return { version, data: (await readSafetensors(join(folder, 'outputs.safetensors'))).tensors.get('sample').data };
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

/** Norm of the difference over the norm. */
function relativeDifference(found, wanted) {
	const norm = (at) => Math.sqrt(wanted.reduce((sum, _, i) => sum + at(i) ** 2, 0));
	return norm((i) => found[i] - wanted[i]) / norm((i) => wanted[i]);
}

export async function run({ quick, log }) {
	const rows = [];
	for (const options of quick ? models.slice(1) : models) {
		const model = setUp(options);
		const wanted = await onEngine(model);
		const began = performance.now();
		const bytes = chainToOnnx(model.chain, model.weights, { batch: model.batch });
		const exportMs = performance.now() - began;
		const javaScript = await inJavaScript(bytes, model.inputs);
		const python = await inPython(bytes, model.inputs);
		if (python.missing) log(`Python: ${python.missing}`);
		rows.push({
			model: model.name,
			batch: model.batch,
			megabytes: significant(bytes.length / 1e6, 3),
			export_ms: significant(exportMs, 3),
			javascript_vs_engine: significant(relativeDifference(javaScript, wanted), 3),
			python_vs_engine: python.missing ?? significant(relativeDifference(python.data, wanted), 3),
			python_onnxruntime: python.version ?? '',
		});
		log(`${model.name}: done`);
	}
	const worst = (key) => {
		const found = rows.map((r) => r[key]).filter((v) => typeof v === 'number');
		return found.length === rows.length ? { [`${key}_max`]: Math.max(...found) } : {};
	};
	return { rows, figures: { ...worst('javascript_vs_engine'), ...worst('python_vs_engine') } };
}
