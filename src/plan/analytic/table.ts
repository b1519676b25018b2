/**
 * @file Work as text, one layer a line, so that tables of published jobs can be kept and read without tracing models. First the kind of line, then:
 *
 *     job <name>
 *     backbone <name>
 *     layer <name> <forward> <backward for inputs> <backward for weights> <cut> <saved> <parameters> <trained parameters>
 *     skip <from> <to> <elements>
 *     frozen <name> <after...>
 *     step <name> <forward> <output> <parameters>
 *
 * A pass is its seven numbers joined by commas, in the order of `passKeys`.
 */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { FrozenLayerWork, JobWork, LayerWork, PassWork } from './work.ts';

/** Numbers of a pass in the order they are written. */
export const passKeys = [
	'convMacs',
	'matmulMacs',
	'attentionMacs',
	'productElements',
	'passElements',
	'weightElements',
	'kernels',
] as const satisfies readonly (keyof PassWork)[];

/** `job` as lines. */
export function formatWork({ name, backbones, frozen }: JobWork): string {
	const pass = (work: PassWork) => passKeys.map((key) => work[key]).join(',');
	const layer = (l: LayerWork) => {
		const passes = [l.forward, l.backwardInput, l.backwardWeight].map(pass);
		return ['layer', l.name, ...passes, l.cutElements, l.savedElements, l.parameters, l.trainedParameters].join(' ');
	};
	const step = (l: FrozenLayerWork) => `step ${l.name} ${pass(l.forward)} ${l.outputElements} ${l.parameters}`;
	const lines = [
		`job ${name}`,
		...backbones.flatMap((b) => [
			`backbone ${b.name}`,
			...b.layers.map(layer),
			...b.skips.map(({ from, to, elements }) => `skip ${from} ${to} ${elements}`),
		]),
		...frozen.flatMap((f) => [['frozen', f.name, ...f.after].join(' '), ...f.layers.map(step)]),
	];
	return `${lines.join('\n')}\n`;
}

/** The job that `text` describes. Throws an internal error for a line that is none. */
export function readWork(text: string): JobWork {
	type Growing = { name: string; backbones: MutableBackbone[]; frozen: MutableFrozen[] };
	type MutableBackbone = { name: string; layers: LayerWork[]; skips: { from: number; to: number; elements: number }[] };
	type MutableFrozen = { name: string; after: string[]; layers: FrozenLayerWork[] };
	const job: Growing = { name: '', backbones: [], frozen: [] };
	for (const line of text.trim().split('\n')) {
		const [kind, ...words] = line.split(' ');
		const number = (i: number) => {
			const value = Number(words[i]);
			return words[i] !== undefined && Number.isFinite(value) ? value : bad(line);
		};
		const pass = (i: number) => readPass(words[i] ?? '', line);
		const name = words[0] ?? bad(line);
		const last = <T>(list: readonly T[]): T => list.at(-1) ?? bad(line);
		if (kind === 'job') job.name = name;
		else if (kind === 'backbone') job.backbones.push({ name, layers: [], skips: [] });
		else if (kind === 'layer') {
			last(job.backbones).layers.push({
				name,
				forward: pass(1),
				backwardInput: pass(2),
				backwardWeight: pass(3),
				cutElements: number(4),
				savedElements: number(5),
				parameters: number(6),
				trainedParameters: number(7),
			});
		} else if (kind === 'skip') last(job.backbones).skips.push({ from: number(0), to: number(1), elements: number(2) });
		else if (kind === 'frozen') job.frozen.push({ name, after: words.slice(1), layers: [] });
		else if (kind === 'step') last(job.frozen).layers.push({ name, forward: pass(1), outputElements: number(2), parameters: number(3) });
		else bad(line);
	}
	return job;
}

function readPass(text: string, line: string): PassWork {
	const numbers = text.split(',').map(Number);
	if (numbers.length !== passKeys.length || numbers.some((n) => !Number.isFinite(n))) bad(line);
	return Object.fromEntries(passKeys.map((key, i) => [key, numbers[i]])) as unknown as PassWork;
}

function bad(line: string): never {
	throw new DiffusionPipeError('internal', 'is no line of a table of work', { place: line.slice(0, 80) });
}
