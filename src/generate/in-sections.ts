/** @file A model that runs once, run a section of its layers at a time, so that a section's weights are all that is in memory. */
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { type Chain, type ChainTrace, liveAt, traceChain } from '../nn/chain.ts';
import { type RunOptions, type WeightSource, withForward } from './parts.ts';

/** 4.3 GB of float32: T5-XXL, with 19 GB as a whole more than one buffer can hold, is run in five. */
const sectionElements = 2 ** 30;

/** How a chain is run once. */
export interface OnceOptions extends RunOptions {
	/** See `withForward`. */
	readonly elementsPerRow: number;
	/** Most elements of parameters in a section, unless one layer has more. */
	readonly maxElements?: number;
}

/** The outputs of `chain` for `inputs` ([rows, ...] each). */
export async function runOnce(
	chain: Chain,
	source: WeightSource,
	inputs: Readonly<Record<string, Tensor>>,
	{ maxElements = sectionElements, ...options }: OnceOptions,
): Promise<Readonly<Record<string, Tensor>>> {
	const trace = traceChain(chain, 1);
	const rows = Object.values(inputs)[0]!.shape[0]!;
	const known: Record<string, Tensor> = { ...inputs };
	const results: Record<string, Tensor> = {};
	for (const [from, to] of sections(trace, maxElements)) {
		const section = sectionChain(trace, from, to);
		const outputs = await withForward(section, source, { ...options, rows }, (forward) => forward.run(known));
		Object.assign(known, outputs);
		for (const name of chain.outputs) if (outputs[name]) results[name] = outputs[name];
	}
	return results;
}

/** Runs of layers [from, to) with at most `maxElements` of parameters each. */
function sections(trace: ChainTrace, maxElements: number): [number, number][] {
	const result: [number, number][] = [];
	let held = new Set<string>();
	let from = 0;
	const sizeWith = (names: ReadonlySet<string>) => [...names].reduce((sum, name) => sum + sizeOf(trace.parameters.get(name)!.shape), 0);
	trace.layers.forEach(({ parameters }, i) => {
		const grown = new Set([...held, ...parameters]);
		if (i > from && sizeWith(grown) > maxElements) {
			result.push([from, i]);
			from = i;
			held = new Set(parameters);
		} else held = grown;
	});
	return [...result, [from, trace.layers.length]];
}

/** Layers [from, to) as a chain: what they read from before as inputs, what is read after them and what the whole gives as outputs. */
function sectionChain(trace: ChainTrace, from: number, to: number): Chain {
	const { chain } = trace;
	if (from === 0 && to === chain.layers.length) return chain;
	const read = new Set(trace.layers.slice(from, to).flatMap((layer) => layer.reads));
	const inputs = [...trace.names[from]!].filter(([, id]) => read.has(id));
	const made = (id: string) => trace.definitions.get(id)!.layer >= from;
	const last = to === chain.layers.length;
	const alive = last ? trace.outputs : liveAt(trace, to);
	const namesAfter = last ? chain.outputs.map((name, i) => [name, trace.outputs[i]!] as const) : [...trace.names[to]!];
	return {
		name: `${chain.name}[${from},${to})`,
		inputs: Object.fromEntries(
			inputs.map(([name, id]) => {
				const { dtype, shape } = trace.definitions.get(id)!;
				return [name, { dtype, shape: shape.slice(1) }];
			}),
		),
		layers: chain.layers.slice(from, to),
		outputs: namesAfter.flatMap(([name, id]) => (alive.includes(id) && made(id) ? [name] : [])),
	};
}
