import { describe, expect, it } from 'vitest';
import { tensor, describe as typeText } from '../../src/core/tensor.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import type { ValueName } from '../../src/graph/types.ts';
import { type Chain, type Layer, liveAt, stageGraph, traceChain } from '../../src/nn/chain.ts';
import { linear } from '../../src/nn/linear.ts';

const layer = (name: string, build: Layer['build'], path?: string): Layer => (path === undefined ? { name, build } : { name, path, build });
const chainOf = (layers: readonly Layer[], outputs: readonly string[], inputs: Chain['inputs'] = {}): Chain => ({
	name: 'tiny',
	inputs: { x: { dtype: 'float32', shape: [4] }, label: { dtype: 'int64', shape: [] }, ...inputs },
	layers,
	outputs,
});

/** x to h in layer 0, h to h in the others; `skip` goes from 0 to 3, `label` is read in 2, and 1 uses h and skip. */
const chain = chainOf(
	[
		layer('first', (ctx, live) => {
			const h = linear(ctx, live.get('x'), 4);
			live.set('h', h);
			live.set('skip', ctx.g.relu(h));
		}),
		layer('second', ({ g }, live) => live.set('h', g.add(live.get('h'), live.get('skip')))),
		layer('third', ({ g }, live) => {
			const shift = g.unsqueeze(g.cast(live.get('label'), 'float32'), [1]);
			live.set('h', g.mul(live.get('h'), shift));
		}),
		layer('last', ({ g }, live) => live.set('y', g.concat([live.get('h'), live.get('skip')], 1))),
	],
	['y'],
);

describe('traceChain', () => {
	const trace = traceChain(chain, 3);

	it('tells who reads and writes what, and the parameters of each layer', () => {
		expect(trace.layers).toEqual([
			{ reads: ['x@in'], writes: ['h@0', 'skip@0'], parameters: ['first.weight', 'first.bias'] },
			{ reads: ['h@0', 'skip@0'], writes: ['h@1'], parameters: [] },
			{ reads: ['label@in', 'h@1'], writes: ['h@2'], parameters: [] },
			{ reads: ['h@2', 'skip@0'], writes: ['y@3'], parameters: [] },
		]);
		expect(trace.outputs).toEqual(['y@3']);
		expect([...trace.parameters.keys()]).toEqual(['first.weight', 'first.bias']);
		expect(trace.definitions.get('y@3')).toEqual({ id: 'y@3', name: 'y', layer: 3, dtype: 'float32', shape: [3, 8] });
	});

	it('finds what is alive at every cut', () => {
		expect([0, 1, 2, 3, 4].map((cut) => liveAt(trace, cut).sort())).toEqual([
			[],
			['h@0', 'skip@0'],
			['h@1', 'skip@0'],
			['h@2', 'skip@0'],
			['y@3'],
		]);
	});

	it('keeps an output that is made early alive to the end', () => {
		const early = traceChain(chainOf([chain.layers[0]!, chain.layers[1]!, layer('idle', () => {})], ['skip', 'h']), 2);
		expect(early.outputs).toEqual(['skip@0', 'h@1']);
		expect(liveAt(early, 2).sort()).toEqual(['h@1', 'skip@0']);
		expect(stageGraph(early, 2, 3).passes).toEqual(['skip@0', 'h@1']);
	});

	it('gives a value one id, whatever names it goes by', () => {
		const named = traceChain(
			chainOf(
				[
					layer('a', ({ g }, live) => {
						const [h, k] = [g.neg(live.get('x')), g.exp(live.get('x'))];
						live.set('h', h);
						live.set('skip', h);
						live.set('h', k);
						live.set('input', live.get('x'));
					}),
					layer('b', (_, live) => live.set('other', live.get('skip'))),
					layer('c', ({ g }, live) =>
						live.set('y', g.add(g.add(live.get('h'), live.get('skip')), g.add(live.get('other'), live.get('input')))),
					),
				],
				['y'],
			),
			2,
		);
		// h first stood for what skip stands for; the second value written as h has an id of its own.
		expect(named.layers.map(({ reads, writes }) => [reads, writes])).toEqual([
			[['x@in'], ['h@0', "h@0'"]],
			[['h@0'], []],
			[["h@0'", 'h@0', 'x@in'], ['y@2']],
		]);
		expect(liveAt(named, 2).sort()).toEqual(['h@0', "h@0'"]);
		const last = stageGraph(named, 2, 3);
		expect(last.feeds.map(([name]) => name)).toEqual(['x']);
		expect(last.receives.map(([id]) => id)).toEqual(["h@0'", 'h@0']);
	});

	it('puts parameters and nodes under the path of their layer', () => {
		const paths = traceChain(
			chainOf(
				[
					layer('blocks.0', (ctx, live) =>
						live.set(
							'h',
							ctx.at('to_q', (c) => linear(c, live.get('x'), 4)),
						),
					),
					layer(
						'out',
						(ctx, live) =>
							live.set(
								'y',
								ctx.at('proj', (c) => linear(c, live.get('h'), 2)),
							),
						'',
					),
				],
				['y'],
			),
			1,
		);
		expect([...paths.parameters.keys()]).toEqual(['blocks.0.to_q.weight', 'blocks.0.to_q.bias', 'proj.weight', 'proj.bias']);
		expect(stageGraph(paths, 0, 2).graph.nodes.map((n) => n.scope)).toEqual(['blocks.0.to_q', 'proj']);
	});

	it.each<[string, () => unknown, RegExp]>([
		[
			'reads what nobody wrote',
			() => traceChain(chainOf([layer('a', (_, live) => live.set('y', live.get('hidden')))], ['y']), 1),
			/^chain tiny, layer a: live value hidden was never written\n {2}expected: one of x, label$/,
		],
		[
			'has an output that nobody wrote',
			() => traceChain(chainOf([layer('a', (_, live) => live.set('h', live.get('x')))], ['y']), 1),
			/^chain tiny, layer outputs: live value y was never written/,
		],
		[
			'has an input for an output',
			() => traceChain(chainOf([layer('a', (_, live) => live.set('y', live.get('x')))], ['y']), 1),
			/^chain tiny: output y is an input unchanged\n {2}try: write a copy/,
		],
		[
			'has one value for two outputs',
			() =>
				traceChain(
					chainOf(
						[
							layer('a', ({ g }, live) => {
								live.set('y', g.neg(live.get('x')));
								live.set('z', live.get('y'));
							}),
						],
						['y', 'z'],
					),
					1,
				),
			/^chain tiny: output z is another output unchanged/,
		],
		[
			'uses a parameter with two shapes',
			() =>
				traceChain(
					chainOf(
						[
							layer('a', (ctx, live) => {
								ctx.param('w', [4], { kind: 'ones' });
								live.set('y', ctx.g.mul(live.get('x'), ctx.param('w', [1], { kind: 'ones' })));
							}),
						],
						['y'],
					),
					1,
				),
			/^a\.w: a parameter is used with two shapes\n {2}expected: \[4\]\n {2}found: \[1\]/,
		],
		[
			'builds a wrong graph',
			() => traceChain(chainOf([layer('blocks.7', ({ g }, live) => live.set('y', g.matMul(live.get('x'), live.get('x'))))], ['y']), 2),
			/^blocks\.7: MatMul\(float32\[2,4\], float32\[2,4\]\)/,
		],
	])('refuses a chain that %s', (_, make, message) => {
		expect(make).toThrow(message);
	});
});

describe('stageGraph', () => {
	const trace = traceChain(chain, 3);
	const ends = (from: number, to: number) => {
		const { feeds, receives, sends, passes, parameters, graph } = stageGraph(trace, from, to);
		return {
			feeds: feeds.map(([name]) => name),
			receives: receives.map(([id]) => id),
			sends: sends.map(([id]) => id),
			passes,
			parameters: parameters.map((p) => p.name),
			inputs: graph.inputs.map(String),
		};
	};

	it('connects each stage to the chain inputs, the stage before and the stage after', () => {
		expect(ends(0, 1)).toEqual({
			feeds: ['x'],
			receives: [],
			sends: ['h@0', 'skip@0'],
			passes: [],
			parameters: ['first.weight', 'first.bias'],
			inputs: ['live.x@in', 'first.weight', 'first.bias'],
		});
		expect(ends(1, 2)).toMatchObject({ feeds: [], receives: ['h@0', 'skip@0'], sends: ['h@1', 'skip@0'], passes: [] });
		expect(ends(2, 3)).toMatchObject({ feeds: ['label'], receives: ['h@1'], sends: ['h@2'], passes: ['skip@0'] });
		expect(ends(3, 4)).toMatchObject({ receives: ['h@2', 'skip@0'], sends: ['y@3'], passes: [] });
	});

	it('sends a copy of what it only received', () => {
		const { graph, sends } = stageGraph(trace, 1, 2);
		const [, sent] = sends.find(([id]) => id === 'skip@0')!;
		expect(graph.inputs).not.toContain(sent);
		expect(graph.nodes.find((n) => n.outputs.includes(sent))!.op).toBe('Identity');
	});

	it('computes in stages what it computes whole', () => {
		const x = tensor(
			'float32',
			[3, 4],
			Array.from({ length: 12 }, (_, i) => Math.sin(i)),
		);
		const label = tensor('int64', [3], [1, 0, -2]);
		const weights = new Map([
			[
				'first.weight',
				tensor(
					'float32',
					[4, 4],
					Array.from({ length: 16 }, (_, i) => Math.cos(i)),
				),
			],
			['first.bias', tensor('float32', [4], [0.1, 0.2, 0.3, 0.4])],
		]);
		const walk = (cuts: readonly number[]) => {
			const bounds = [0, ...cuts, 4];
			let live = new Map<string, ReturnType<typeof tensor>>();
			for (let s = 0; s + 1 < bounds.length; s++) {
				const stage = stageGraph(trace, bounds[s]!, bounds[s + 1]!);
				const feeds = new Map<ValueName, ReturnType<typeof tensor>>();
				for (const [name, input] of stage.feeds) feeds.set(input, name === 'x' ? x : label);
				for (const [id, input] of stage.receives) feeds.set(input, live.get(id)!);
				for (const p of stage.parameters) feeds.set(p.name as ValueName, weights.get(p.name)!);
				const results = evaluateGraph(stage.graph, feeds);
				live = new Map([
					...stage.passes.map((id) => [id, live.get(id)!] as const),
					...stage.sends.map(([id, name]) => [id, results.get(name)!] as const),
				]);
			}
			return live.get('y@3')!;
		};
		const whole = walk([]);
		for (const cuts of [[1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]]) expect(walk(cuts)).toEqual(whole);
	});

	it('is built at another batch size than the trace', () => {
		const { graph } = stageGraph(trace, 1, 3, 7);
		expect(graph.inputs.map((name) => typeText(graph.values.get(name)!))).toEqual(['float32[7,4]', 'float32[7,4]', 'int64[7]']);
	});

	it('refuses another batch size where a live value has no axis of samples', () => {
		const odd = traceChain(
			chainOf(
				[
					layer('a', ({ g }, live) => live.set('norm', g.reduceSumSquare(live.get('x'), [0, 1]))),
					layer('b', ({ g }, live) => live.set('y', g.mul(live.get('x'), live.get('norm')))),
				],
				['y'],
			),
			2,
		);
		expect(stageGraph(odd, 1, 2).receives).toHaveLength(1);
		expect(() => stageGraph(odd, 1, 2, 4)).toThrow(
			/^chain tiny, layer a: live value norm does not have the samples as its first axis\n {2}expected: \[2, \.\.\.\]/,
		);
	});
});
