/** @file Models run a section of their layers at a time, so that a section's weights are all that is in memory: those that run once, and those too large for it. */
import { totalmem } from 'node:os';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import type { Forward } from '../engine/local/forward.ts';
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

/** How a denoiser is run. */
export interface DenoiserRunOptions extends RunOptions {
	readonly rows: number;
	/** See `withForward`. */
	readonly elementsPerRow: number;
	/** Bytes that weights may take. Default: four fifths of the machine's memory. */
	readonly memoryBytes?: number;
	/** Told the bytes of weights that do not fit. */
	readonly onSections?: (bytes: number) => void;
}

/**
 * Runs `use` with the denoiser `chain`, whose weights (which `checkWeights` has seen) stay in memory on every device while it lasts. Where they do not fit,
 * each run reads them again, section by section: slow, but of any size.
 */
export async function withDenoiser<T>(
	chain: Chain,
	source: WeightSource,
	{ memoryBytes = machineBytes(), onSections, ...options }: DenoiserRunOptions,
	use: (forward: Pick<Forward, 'run'>) => Promise<T>,
): Promise<T> {
	const copies = Math.min(options.devices, options.rows);
	const elements = [...traceChain(chain, 1).parameters.values()].reduce((sum, p) => sum + sizeOf(p.shape), 0);
	if (4 * copies * elements <= memoryBytes) return withForward(chain, source, options, use);
	onSections?.(4 * elements);
	const maxElements = Math.min(sectionElements, memoryBytes / (4 * copies));
	return use({
		run: async (inputs) => ({ ...(await runOnce(chain, source, inputs, { ...options, maxElements })) }),
	});
}

/** What to say of weights that are read section by section. */
export function sectionsNote(bytes: number): string {
	return `the weights take ${(bytes / 1e9).toFixed(1)} GB, more than fits this machine: every step reads them anew, section by section`;
}

function machineBytes(): number {
	// 0: nothing but the machine's memory limits the process.
	return 0.8 * Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
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
