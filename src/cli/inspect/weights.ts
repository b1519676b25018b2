/** @file Describes files of weights: the tensors by name, type and shape. */
import { sizeOf } from '../../core/tensor.ts';
import { openSafetensors, type TensorReader } from '../../io/safetensors.ts';
import { openSharded } from '../../io/safetensors-sharded.ts';
import { formatBytes, formatCount, formatTable, plural } from '../format.ts';
import type { Description } from './index.ts';

/** What is stored, without the values. */
export interface WeightsSummary {
	readonly tensors: number;
	readonly parameters: number;
	readonly bytes: number;
	/** Number of tensors by element type, in the file's words. */
	readonly types: Readonly<Record<string, number>>;
}

/** Counts what `reader` holds. */
export function summarise(reader: TensorReader): WeightsSummary {
	const types: Record<string, number> = {};
	let parameters = 0;
	let bytes = 0;
	for (const name of reader.names) {
		const info = reader.info(name);
		types[info.storedType] = (types[info.storedType] ?? 0) + 1;
		parameters += sizeOf(info.shape);
		bytes += info.end - info.begin;
	}
	return { tensors: reader.names.length, parameters, bytes, types };
}

/** One line: `52 tensors (F32), 1.02 M values, 4.1 MB`. */
export function summaryLine({ tensors, parameters, bytes, types }: WeightsSummary): string {
	return `${plural(tensors, 'tensor')} (${Object.keys(types).sort().join(', ') || 'none'}), ${formatCount(parameters)} values, ${formatBytes(bytes)}`;
}

/** Describes a safetensors file, or the shards its index names. */
export async function describeWeightsFile(path: string): Promise<Description> {
	const reader = await (path.endsWith('.json') ? openSharded(path) : openSafetensors(path));
	try {
		const summary = summarise(reader);
		const tensors = reader.names.map((name) => {
			const { storedType, shape, begin, end } = reader.info(name);
			return { name, type: storedType, shape, bytes: end - begin };
		});
		const metadata = Object.entries(reader.metadata).map(([key, value]) => `  ${key}: ${value}`);
		return {
			document: { kind: 'weights', path, ...summary, metadata: reader.metadata, list: tensors },
			lines: [
				`${path}: ${summaryLine(summary)}`,
				...(metadata.length > 0 ? ['metadata', ...metadata] : []),
				...formatTable(
					tensors.map((t) => [`  ${t.name}`, t.type, `[${t.shape.join(', ')}]`, formatBytes(t.bytes)]),
					[3],
				),
			],
		};
	} finally {
		await reader.close();
	}
}
