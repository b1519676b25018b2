/** @file Measures graphs on this machine, in a thread of their own; graphs of equal structure are measured once. */
import { Worker } from 'node:worker_threads';
import { DiffusionPipeError } from '../../core/errors.ts';
import type { TypeShape } from '../../core/tensor.ts';
import { workerEntry } from '../../core/worker-entry.ts';
import { type Graph, type ValueName, valueNamed } from '../../graph/types.ts';
import { modelOf, sharedEnvironment } from './engine.ts';
import type { Environment } from './native.ts';
import type { GraphModel } from './protocol.ts';

/** What the measuring thread gets. */
export interface MeasureSetup {
	readonly environment: Environment;
	readonly graphs: readonly { readonly model: GraphModel; readonly inputTypes: readonly TypeShape[] }[];
	readonly repeats: number;
	readonly threads: number;
}

/** How many are measured, then the median times, or what went wrong. */
export type MeasureResult = { readonly measured: number } | { readonly ms: readonly number[] } | { readonly error: string };

export interface MeasureOptions {
	/** Runs of each graph after one to warm up. Default 5. */
	readonly repeats?: number;
	/** Threads inside one operator. Default 1. */
	readonly threads?: number;
	/** Threads that measure the same graphs side by side, as devices of a run compute side by side: they share memory and clock. Default 1. */
	readonly devices?: number;
	/** Hears how many graphs of different structure are done, and how many there are. */
	readonly onMeasured?: (done: number, total: number) => void;
}

/** Median time of each graph in ms (the mean over `devices`) on inputs of small random numbers and zero integers. */
export async function measureGraphs(
	graphs: readonly Graph[],
	{ repeats = 5, threads = 1, devices = 1, onMeasured }: MeasureOptions = {},
): Promise<number[]> {
	const keys = graphs.map(structureKey);
	const distinct = [...new Set(keys)];
	const setup: MeasureSetup = {
		environment: sharedEnvironment(),
		repeats,
		threads,
		graphs: distinct.map((key) => {
			const graph = graphs[keys.indexOf(key)]!;
			return { model: modelOf(graph), inputTypes: graph.inputs.map((n) => valueNamed(graph, n)) };
		}),
	};
	const results = await Promise.all(
		Array.from({ length: devices }, (_, d) => measureInThread(setup, d === 0 ? (done) => onMeasured?.(done, distinct.length) : () => {})),
	);
	const ms = distinct.map((_, i) => results.reduce((sum, times) => sum + times[i]!, 0) / devices);
	return keys.map((key) => ms[distinct.indexOf(key)]!);
}

/** Times of the set-up's graphs, by a thread of their own. */
async function measureInThread(setup: MeasureSetup, onMeasured: (done: number) => void): Promise<readonly number[]> {
	const worker = new Worker(workerEntry(import.meta.url, './measure-worker.js'), { workerData: setup, execArgv: [], name: 'measure' });
	const result = await new Promise<Exclude<MeasureResult, { readonly measured: number }>>((resolve, reject) => {
		worker.on('message', (message: MeasureResult) => {
			if ('measured' in message) onMeasured(message.measured);
			else resolve(message);
		});
		worker.once('error', reject);
		worker.once('exit', (code) =>
			reject(new DiffusionPipeError('engine', `the measuring thread ended (exit code ${code})`, { place: 'profile' })),
		);
	});
	if ('error' in result) throw new DiffusionPipeError('engine', result.error, { place: 'profile' });
	return result.ms;
}

/** A text that is equal for graphs that differ only in names (constants are told apart by type and shape). */
export function structureKey(graph: Graph): string {
	const numbers = new Map<string, number>();
	const number = (name: ValueName | '') => {
		if (name === '') return '-';
		let n = numbers.get(name);
		if (n === undefined) {
			n = numbers.size;
			numbers.set(name, n);
		}
		const { dtype, shape } = valueNamed(graph, name);
		return `${n}:${dtype}[${shape}]`;
	};
	const nodes = graph.nodes.map((n) => `${n.op}(${n.inputs.map(number)})${JSON.stringify(n.attributes)}>${n.outputs.map(number)}`);
	return `${graph.inputs.map(number)}|${nodes.join(';')}|${graph.outputs.map(number)}`;
}
