/** @file Describes models: parameters, multiply-accumulates and bytes by layer of the chain, and whether the stored weights fit. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { bytesPerElement, sizeOf } from '../../core/tensor.ts';
import { macsOf } from '../../graph/macs.ts';
import { readJsonObject } from '../../io/json-file.ts';
import { readModelFolder } from '../../io/model-folder.ts';
import type { TensorReader } from '../../io/safetensors.ts';
import { createDenoiser, type Denoiser, denoisers } from '../../models/index.ts';
import { stageGraph, traceChain } from '../../nn/chain.ts';
import { formatBytes, formatCount, formatTable } from '../format.ts';
import type { Description } from './index.ts';
import { summarise, summaryLine, type WeightsSummary } from './weights.ts';

/** One layer of a chain, for one sample. */
export interface LayerSummary {
	readonly name: string;
	readonly parameters: number;
	/** Of the forward pass. */
	readonly macs: number;
	/** Of the parameters in float32. */
	readonly bytes: number;
}

/** A model's cost by layer; a parameter that several layers use counts in each, and once in the total. */
export interface ModelSummary {
	readonly layers: readonly LayerSummary[];
	readonly parameters: number;
	readonly macs: number;
	readonly bytes: number;
}

/** Measures `denoiser` from shapes alone, for one sample. */
export function summariseModel({ chain }: Denoiser): ModelSummary {
	const trace = traceChain(chain, 1);
	const count = (names: Iterable<string>) => [...names].reduce((sum, name) => sum + sizeOf(trace.parameters.get(name)!.shape), 0);
	const width = bytesPerElement('float32');
	const layers = chain.layers.map(({ name }, i): LayerSummary => {
		const parameters = count(trace.layers[i]!.parameters);
		return { name, parameters, macs: macsOf(stageGraph(trace, i, i + 1).graph), bytes: parameters * width };
	});
	const parameters = count(trace.parameters.keys());
	return { layers, parameters, macs: layers.reduce((sum, layer) => sum + layer.macs, 0), bytes: parameters * width };
}

/** Names that the model needs and the file lacks, that it holds and the model does not know, and that have another shape. */
export function compareWeights({ chain }: Denoiser, weights: TensorReader): { missing: string[]; unknown: string[]; misshapen: string[] } {
	const { parameters } = traceChain(chain, 1);
	const known = [...parameters.values()];
	return {
		missing: known.flatMap((p) => (weights.has(p.name) ? [] : [p.name])),
		unknown: weights.names.filter((name) => !parameters.has(name)),
		misshapen: known.flatMap((p) => (weights.has(p.name) && weights.info(p.name).shape.join() !== p.shape.join() ? [p.name] : [])),
	};
}

/** Describes a model's `config.json` without weights. */
export async function describeConfigFile(path: string): Promise<Description> {
	const raw = await readJsonObject(path);
	const className = raw._class_name;
	if (typeof className !== 'string') {
		throw new DiffusionPipeError('input', 'names no model class', {
			place: path,
			expected: `_class_name, as ${Object.keys(denoisers).join(', ')}`,
			found: JSON.stringify(className) ?? 'nothing',
		});
	}
	const denoiser = createDenoiser(className, raw, path);
	const summary = summariseModel(denoiser);
	return {
		document: { kind: 'model', path, class: className, config: denoiser.config, ...summary },
		lines: [`${path}: ${className}`, ...configLines(denoiser.config), ...layerLines(summary)],
	};
}

/** Describes a model folder: config, layers and stored weights. Of a class we do not know, config and weights alone. */
export async function describeModelFolder(path: string): Promise<Description> {
	const { config, weights, weightsFile } = await readModelFolder(path);
	try {
		const stored = summarise(weights);
		const raw = config as Readonly<Record<string, unknown>>;
		const className = String(raw._class_name ?? (raw.architectures as unknown[] | undefined)?.[0] ?? 'unnamed class');
		const common = { kind: 'model', path, class: className, weights: { file: weightsFile, ...stored } };
		const title = `${path}: ${className}`;
		if (!Object.hasOwn(denoisers, className)) {
			return {
				document: { ...common, config },
				lines: [title, ...configLines(raw), storedLine(weightsFile, stored), 'layers are not shown: this class is not one of ours'],
			};
		}
		const denoiser = createDenoiser(className, config, join(path, 'config.json'));
		const summary = summariseModel(denoiser);
		const { missing, unknown, misshapen } = compareWeights(denoiser, weights);
		return {
			document: { ...common, config: denoiser.config, ...summary, missing, unknown, misshapen },
			lines: [
				title,
				...configLines(denoiser.config),
				...layerLines(summary),
				storedLine(weightsFile, stored),
				...nameLines('missing from the weights', missing),
				...nameLines('in the weights, not in the model', unknown),
				...nameLines('of another shape than in the model', misshapen),
			],
		};
	} finally {
		await weights.close();
	}
}

const storedLine = (file: string, stored: WeightsSummary) => `${file}: ${summaryLine(stored)}`;

function nameLines(what: string, names: readonly string[]): string[] {
	if (names.length === 0) return [];
	const more = names.length > 5 ? ` and ${names.length - 5} more` : '';
	return [`${what}: ${names.slice(0, 5).join(', ')}${more}`];
}

function configLines(config: Readonly<Record<string, unknown>>): string[] {
	return Object.entries(config).flatMap(([key, value]) => (key.startsWith('_') ? [] : [`  ${key} = ${JSON.stringify(value)}`]));
}

function layerLines({ layers, parameters, macs, bytes }: ModelSummary): string[] {
	const row = (l: LayerSummary) => [`  ${l.name}`, formatCount(l.parameters), formatCount(l.macs), formatBytes(l.bytes)];
	return formatTable(
		[['  layer', 'parameters', 'MACs', 'float32'], ...layers.map(row), row({ name: 'all', parameters, macs, bytes })],
		[1, 2, 3],
	);
}
