/** @file Chains written as ONNX compute in ONNX Runtime's own session what they do on the local engine. */
import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { numberToHalf, sizeOf, type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { readOnnx } from '../../src/graph/onnx/index.ts';
import { decodeModel } from '../../src/graph/onnx/schema.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { ditChain, readDiTConfig } from '../../src/models/dit.ts';
import { type Chain, liveAt, traceChain } from '../../src/nn/chain.ts';
import { chainToOnnx } from '../../src/nn/export.ts';
import { chainFromGraph } from '../../src/nn/import.ts';
import { chainFeeds, crossingChains, mixedChain } from '../engine/chains.ts';
import { expectClose } from '../helpers/close.ts';
import { runChain } from '../helpers/run-chain.ts';

/** Runs a model with onnxruntime-node's JavaScript interface. */
async function runModel(model: Uint8Array, inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
	const session = await InferenceSession.create(model);
	const feeds = session.inputNames.map((name) => {
		const t = inputs[name]!;
		return [name, new OrtTensor(t.dtype as 'float32', t.data as Float32Array, [...t.shape])] as const;
	});
	const results = await session.run(Object.fromEntries(feeds));
	return Object.fromEntries(
		session.outputNames.map((name) => {
			const { type, dims, data } = results[name]!;
			return [name, { dtype: type as 'float32', shape: dims, data: data as Float32Array }];
		}),
	);
}

/** Small seeded values for every parameter. */
function weightsOf(chain: Chain): Map<string, Tensor> {
	const { parameters } = traceChain(chain, 1);
	return new Map(
		[...parameters.values()].map(({ name, shape }, k) => [
			name,
			tensor(
				'float32',
				shape,
				Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(3 * i + k) / 2),
			),
		]),
	);
}

const close = (found: Tensor, wanted: Tensor, what: string) => {
	expect(found.shape, what).toEqual(wanted.shape);
	expectClose(found, wanted, { rtol: 1e-4, atol: 1e-6, what });
};

describe('a model', () => {
	const root = new URL('../fixtures/dit/', import.meta.url).pathname;
	const chain = ditChain(readDiTConfig(JSON.parse(readFileSync(`${root}config.json`, 'utf8'))));
	const load = async () => {
		const { tensors: weights } = await readSafetensors(`${root}diffusion_pytorch_model.safetensors`);
		const { tensors: io } = await readSafetensors(`${root}io.safetensors`);
		const timestep = io.get('in.timestep')!;
		const inputs = {
			hidden_states: io.get('in.hidden_states')!,
			timestep: tensor('float32', timestep.shape, toNumbers(timestep)),
			class_labels: io.get('in.class_labels')!,
		};
		return { weights, inputs, wanted: io.get('out.sample')!, batch: timestep.shape[0]! };
	};

	it('gives the reference numbers, with its parameters as initialisers under their names', async () => {
		const { weights, inputs, wanted, batch } = await load();
		const model = chainToOnnx(chain, weights, { batch });
		const { sample } = await runModel(model, inputs);
		close(sample!, wanted, 'reference');
		close(sample!, (await runChain(chain, weights, inputs)).get('sample')!, 'local engine');
		const { graph } = decodeModel(model, 'exported');
		expect(graph.inputs.map((i) => i.name).sort()).toEqual(Object.keys(chain.inputs).sort());
		expect(graph.outputs.map((o) => o.name)).toEqual(['sample']);
		const stored = new Map(graph.initializers.map((t) => [t.name, t]));
		for (const [name, t] of weights) expect(stored.get(name)?.dims, name).toEqual(t.shape);
	});

	it('in two parts gives the same, the values between under their live names', async () => {
		const { weights, inputs, wanted, batch } = await load();
		const trace = traceChain(chain, batch);
		for (let cut = 1; cut < chain.layers.length; cut++) {
			const between = await runModel(chainToOnnx(chain, weights, { batch, to: cut }), inputs);
			expect(Object.keys(between).sort()).toEqual(
				liveAt(trace, cut)
					.map((id) => trace.definitions.get(id)!.name)
					.sort(),
			);
			const { sample } = await runModel(chainToOnnx(chain, weights, { batch, from: cut }), { ...inputs, ...between });
			close(sample!, wanted, `cut ${cut}`);
		}
	});

	it('is written as float32 from half-precision weights', async () => {
		const { weights, inputs, batch } = await load();
		const halves = new Map<string, Tensor>(
			[...weights].map(([name, { shape, data }]) => [
				name,
				{ dtype: 'float16', shape, data: Uint16Array.from(data as Float32Array, numberToHalf) },
			]),
		);
		const rounded = new Map([...halves].map(([name, t]) => [name, tensor('float32', t.shape, toNumbers(t))]));
		const { sample } = await runModel(chainToOnnx(chain, halves, { batch }), inputs);
		close(sample!, (await runChain(chain, rounded, inputs)).get('sample')!, 'rounded weights');
	});
});

describe('any chain', () => {
	it.each([mixedChain, ...crossingChains])('$name', async (chain) => {
		const weights = weightsOf(chain);
		const inputs = chainFeeds(chain, 3);
		const wanted = await runChain(chain, weights, inputs);
		const found = await runModel(chainToOnnx(chain, weights, { batch: 3 }), inputs);
		expect(Object.keys(found)).toEqual(chain.outputs);
		for (const name of chain.outputs) close(found[name]!, wanted.get(name)!, name);
	});

	it('comes back as the chain it was', async () => {
		const weights = weightsOf(mixedChain);
		const inputs = chainFeeds(mixedChain, 3);
		const again = chainFromGraph(readOnnx(chainToOnnx(mixedChain, weights, { batch: 3 })));
		expect([...again.weights.keys()].filter((name) => weights.has(name)).sort()).toEqual([...weights.keys()].sort());
		const cuts = again.chain.layers.slice(1).map((_, i) => i + 1);
		const found = await runChain(again.chain, again.weights, inputs, { cuts });
		close(found.get('loss')!, (await runChain(mixedChain, weights, inputs)).get('loss')!, 'loss');
	});

	it('keeps apart what has one name', async () => {
		const chain: Chain = {
			name: 'one name',
			inputs: { h: { dtype: 'float32', shape: [2] } },
			layers: [
				{ name: 'a', build: ({ g }, live) => live.set('h', g.exp(live.get('h'))) },
				{ name: 'b', build: ({ g }, live) => live.set('h', g.neg(live.get('h'))) },
			],
			outputs: ['h'],
		};
		const h = tensor('float32', [1, 2], [0, 1]);
		expect(Object.values(await runModel(chainToOnnx(chain, new Map(), { batch: 1 }), { h }))).toHaveLength(1);
		const [found] = Object.entries(await runModel(chainToOnnx(chain, new Map(), { batch: 1 }), { h }));
		expect(found![0]).toBe('h_1');
		expectClose(found![1], [-1, -Math.E], { rtol: 1e-6 });
	});
});

describe('what is refused', () => {
	const weights = weightsOf(mixedChain);
	const first = [...weights.keys()][0]!;

	it('names the weight', () => {
		const without = new Map([...weights].map(([name, t]) => [name === first ? `${name}s` : name, t]));
		expect(() => chainToOnnx(mixedChain, without, { batch: 1 })).toThrow(`${first}: the weight is missing`);
		expect(() => chainToOnnx(mixedChain, without, { batch: 1 })).toThrow(`${first}s, which is another name`);
		const wrong = new Map<string, Tensor>([...weights, [first, tensor('float32', [1], [0])]]);
		expect(() => chainToOnnx(mixedChain, wrong, { batch: 1 })).toThrow(/does not fit[\s\S]*float32\[1\]/);
		const integers = new Map<string, Tensor>([...weights, [first, { ...weights.get(first)!, dtype: 'int32', data: new Int32Array(36) }]]);
		expect(() => chainToOnnx(mixedChain, integers, { batch: 1 })).toThrow(/does not fit[\s\S]*int32/);
	});

	it('names the range of layers', () => {
		for (const [from, to] of [
			[2, 2],
			[-1, 2],
			[0, 99],
			[0.5, 2],
		] as const) {
			expect(() => chainToOnnx(mixedChain, weights, { batch: 1, from, to })).toThrow(/0 <= from < to <= 5/);
		}
	});
});
