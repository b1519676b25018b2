/** @file Models that PyTorch exported to ONNX, as chains: cut by themselves, run whole and in stages, with the numbers PyTorch computed. */
import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { byteSize, type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import { readOnnx } from '../../src/graph/onnx/index.ts';
import type { Graph, ValueName } from '../../src/graph/types.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { stageGraph, traceChain } from '../../src/nn/chain.ts';
import { chainFromGraph } from '../../src/nn/import.ts';
import { expectClose } from '../helpers/close.ts';
import { runChain } from '../helpers/run-chain.ts';

const root = new URL('../fixtures/onnx/', import.meta.url).pathname;
const models = ['text-encoder-14', 'text-encoder-17', 'image-encoder', 'unet'];
const bytesOf = (name: string) => readFileSync(`${root}${name}.onnx`);
const graphAt = (name: string) => (batch: number) => readOnnx(bytesOf(name), { dims: { batch }, place: `${name}.onnx` });

interface Case {
	readonly inputs: Record<string, Tensor>;
	readonly outputs: Record<string, Tensor>;
}

/** The inputs of a fixture, and the outputs that PyTorch computed. */
async function caseOf(name: string): Promise<Case> {
	const { tensors } = await readSafetensors(`${root}${name}.safetensors`);
	const part = (prefix: string) =>
		Object.fromEntries([...tensors].flatMap(([key, t]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), t]] : [])));
	return { inputs: part('in.'), outputs: part('out.') };
}

/** Two cuts that leave three stages of about as many layers. */
const threeStages = (layers: number): number[] => [Math.round(layers / 3), Math.round((2 * layers) / 3)];

function expectOutputs(found: ReadonlyMap<string, Tensor>, wanted: Record<string, Tensor>): void {
	expect([...found.keys()].sort()).toEqual(Object.keys(wanted).sort());
	for (const [name, t] of Object.entries(wanted)) {
		expect(found.get(name)!.shape, name).toEqual(t.shape);
		expectClose(found.get(name)!, t, { rtol: 1e-4, atol: 2e-6, what: name });
	}
}

describe.each(models)('%s', (name) => {
	it('computes in one stage and in three what PyTorch, ONNX Runtime and the reference interpreter do', async () => {
		const { inputs, outputs } = await caseOf(name);
		const { chain, weights } = chainFromGraph(graphAt(name)(4));
		expectOutputs(await runChain(chain, weights, inputs), outputs);
		expectOutputs(await runChain(chain, weights, inputs, { cuts: threeStages(chain.layers.length) }), outputs);

		const session = await InferenceSession.create(bytesOf(name));
		const results = await session.run(
			Object.fromEntries(
				Object.entries(inputs).map(([key, t]) => [key, new OrtTensor(t.dtype as 'float32', t.data as Float32Array, [...t.shape])]),
			),
		);
		for (const [key, t] of Object.entries(outputs)) {
			expectClose(results[key]!.data as Float32Array, toNumbers(t), { rtol: 1e-4, atol: 2e-6, what: `ONNX Runtime, ${key}` });
		}
		const feeds = new Map(Object.entries(inputs)) as Map<ValueName, Tensor>;
		expectOutputs(evaluateGraph(graphAt(name)(4), feeds), outputs);
	});

	it('runs at any batch size when it is read again for each, as micro-batches through stages of two copies', async () => {
		const { inputs, outputs } = await caseOf(name);
		const { chain, weights, batch } = chainFromGraph(graphAt(name));
		expect(batch).toBe(1);
		const cuts = threeStages(chain.layers.length);
		expectOutputs(await runChain(chain, weights, inputs, { cuts, replicas: 2, microBatches: 2 }), outputs);
		expectOutputs(await runChain(chain, weights, inputs, { cuts: cuts.slice(1), microBatches: 2 }), outputs);
	});

	it('has every large float constant as a parameter, under its name', () => {
		const graph = graphAt(name)(2);
		const { chain, weights } = chainFromGraph(graphAt(name), { batch: 2 });
		const trace = traceChain(chain, 2);
		expect([...trace.parameters.keys()].sort()).toEqual([...weights.keys()].sort());
		for (const p of trace.parameters.values()) expect([p.trained, p.shape]).toEqual([false, weights.get(p.name)!.shape]);
		const stored = [...graph.constants].filter(([key]) => /weight|bias|^onnx::(MatMul|Mul|Add)/.test(key));
		expect(stored.length).toBeGreaterThan(10);
		for (const [key, t] of stored) expect(weights.get(key)?.data, key).toEqual(t.data);
		const left = stageGraph(trace, 0, chain.layers.length).graph.constants;
		expect(Math.max(...[...left.values()].map(byteSize))).toBeLessThan(100);
	});
});

describe('cuts', () => {
	it('fall between the blocks of a transformer; the mask is fed and made again, not sent', () => {
		const { chain } = chainFromGraph(graphAt('text-encoder-17'));
		expect(chain.layers.map((l) => l.name)).toEqual([
			'layers.0.attn',
			'layers.0.mlp.mlp',
			'layers.1.attn',
			'layers.1.mlp.mlp',
			'layers.2.attn',
			'layers.2.mlp.mlp',
			'projection',
		]);
		const trace = traceChain(chain, 1);
		const { feeds, receives } = stageGraph(trace, 2, 4);
		expect(feeds.map(([input]) => input)).toEqual(['attention_mask']);
		expect(receives.map(([id]) => trace.definitions.get(id)!.shape)).toEqual([[1, 7, 16]]);
		// Only the states at the last tokens go to the projection.
		expect(stageGraph(trace, 6, 7).receives.map(([id]) => trace.definitions.get(id)!.shape)).toEqual([[1, 16]]);
	});

	it('fall where the decomposed normalisation of older exports does not cross them', () => {
		const names = (model: string) => chainFromGraph(graphAt(model)).chain.layers.map((l) => l.name);
		expect(names('text-encoder-14')).toEqual(names('text-encoder-17'));
	});

	it('take skip connections along when more values may cross', () => {
		const layers = (maxCrossing: number) => chainFromGraph(graphAt('unet'), { maxCrossing }).chain.layers.map((l) => l.name);
		expect(layers(1)).toEqual(['time.time.0', 'time.time.2', 'conv_in', 'down', 'mid', 'up', 'conv_out']);
		expect(layers(2).length).toBeGreaterThan(layers(1).length);
		expect(layers(0)).toEqual(['layer_0']);
	});

	it('run with more values crossing', async () => {
		const { inputs, outputs } = await caseOf('unet');
		const { chain, weights } = chainFromGraph(graphAt('unet'), { maxCrossing: 3 });
		const cuts = chain.layers.slice(1).map((_, i) => i + 1);
		expectOutputs(await runChain(chain, weights, inputs, { cuts }), outputs);
	});
});

describe('graphs of any kind', () => {
	/** Weights as inputs; a table looked up by ids; an output that is an input; names that a builder would give. */
	function small(): Graph {
		const g = createBuilder('small');
		const ids = g.input('ids', 'int64', [2, 3]);
		const w = g.input('w', 'float32', [4, 4]);
		const table = g.constant(tensor('float32', [5, 4], [...Array(20).keys()]), 'Gather_1');
		const x = g.gather(table, ids, 0);
		const y = g.matMul(g.tanh(g.matMul(x, w)), g.constant(tensor('float32', [4, 4], [...Array(16).keys()]), 'dec/const_2'));
		return g.finish([y, ids]);
	}

	it('may hold weights as inputs, give inputs back, and use names that layers use', async () => {
		const { chain, weights } = chainFromGraph(small(), { weightInputs: ['w'] });
		expect([...weights.keys()]).toEqual(['Gather_1.value', 'dec/const_2.value']);
		expect(Object.keys(chain.inputs)).toEqual(['ids']);
		expect(chain.layers).toHaveLength(2);
		const w = tensor(
			'float32',
			[4, 4],
			Array.from({ length: 16 }, (_, i) => (i % 5) / 40),
		);
		const ids = tensor('int64', [2, 3], [0, 4, 2, 1, 1, 3]);
		const found = await runChain(chain, new Map([...weights, ['w', w]]), { ids }, { cuts: [1] });
		const wanted = evaluateGraph(small(), new Map(Object.entries({ ids, w })) as Map<ValueName, Tensor>);
		for (const [name, t] of wanted) expectClose(found.get(name)!, t, { rtol: 1e-5, what: name });
	});

	it('are one layer when nothing heavy can be parted', async () => {
		const g = createBuilder('light');
		const x = g.input('x', 'float32', [3, 2]);
		const { chain, weights } = chainFromGraph(g.finish([g.exp(x)]));
		expect([chain.layers.length, weights.size]).toEqual([1, 0]);
		const found = await runChain(chain, weights, { x: tensor('float32', [3, 2], [0, 1, 2, 3, 4, 5]) });
		expectClose([...found.values()][0]!, [0, 1, 2, 3, 4, 5].map(Math.exp));
	});
});

describe('what cannot be a chain', () => {
	it('is built at another batch size than the graph has', () => {
		const { chain } = chainFromGraph(graphAt('unet')(2));
		expect(() => traceChain(chain, 3)).toThrow(/made for another batch size[\s\S]*2 samples[\s\S]*3[\s\S]*function of the batch size/);
	});

	it('has inputs or outputs without a batch axis', () => {
		const g = createBuilder('scalar');
		const x = g.input('x', 'float32', [2, 3]);
		const scale = g.input('scale', 'float32', [1, 3]);
		expect(() => chainFromGraph(g.finish([g.mul(x, scale)]))).toThrow(
			/input scale is not one row per sample[\s\S]*\[2, \.\.\.\][\s\S]*weightInputs/,
		);
		const h = createBuilder('mean');
		const y = h.input('y', 'float32', [2, 3]);
		const mean = h.reduceMean(y, [0, 1], false);
		expect(() => chainFromGraph(h.finish([mean]))).toThrow(/output ReduceMean_\d is not one row per sample/);
		expect(() => chainFromGraph(h.finish([h.constant(tensor('float32', [2], [1, 2]))]))).toThrow(/is not one row per sample/);
	});

	it('has another axis that only happens to be as large as the batch', () => {
		const at = (batch: number): Graph => {
			const g = createBuilder('turned');
			const x = g.input('x', 'float32', [batch, 3]);
			return g.finish([g.transpose(x, [1, 0])]);
		};
		expect(() => chainFromGraph(at(3))).not.toThrow();
		expect(() => chainFromGraph(at, { batch: 3 })).toThrow(/not one row per sample/);
	});

	it('has no inputs, or weights that are not there', () => {
		const g = createBuilder('empty');
		expect(() => chainFromGraph(g.finish([g.scalar(1)]))).toThrow(/batch size cannot be told/);
		expect(() => chainFromGraph(graphAt('unet')(1), { weightInputs: ['timesteps'] })).toThrow(/did you mean timestep\?/);
	});
});
