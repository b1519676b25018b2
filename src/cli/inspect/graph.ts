/** @file Describes ONNX files: inputs, outputs, operators and size, or the whole graph as text. */
import { readFile } from 'node:fs/promises';
import { byteSize, describe } from '../../core/tensor.ts';
import { macsOf } from '../../graph/macs.ts';
import { readOnnx } from '../../graph/onnx/index.ts';
import { graphToText } from '../../graph/text.ts';
import { type Graph, type ValueName, valueNamed } from '../../graph/types.ts';
import { fileError } from '../../io/file-error.ts';
import { formatBytes, formatCount, formatTable, plural } from '../format.ts';
import type { Description, InspectOptions } from './index.ts';

/** Describes the graph in the ONNX file `path`. Throws an input error when it cannot be read, or a symbolic dimension has no size. */
export async function describeGraph(path: string, { text, dims }: InspectOptions): Promise<Description> {
	const bytes = await readFile(path).catch((error: unknown) => {
		throw fileError(path, 'read', error);
	});
	const graph = readOnnx(bytes, { dims, place: path });
	const operators = operatorCounts(graph);
	const constantBytes = [...graph.constants.values()].reduce((sum, t) => sum + byteSize(t), 0);
	const macs = macsOf(graph);
	const typed = (names: readonly ValueName[]) =>
		names.map((name) => {
			const { dtype, shape } = valueNamed(graph, name);
			return { name, dtype, shape };
		});
	const [inputs, outputs] = [typed(graph.inputs), typed(graph.outputs)];
	return {
		document: {
			kind: 'graph',
			path,
			name: graph.name,
			inputs,
			outputs,
			nodes: graph.nodes.length,
			operators: Object.fromEntries(operators),
			constants: graph.constants.size,
			constantBytes,
			macs,
			...(text ? { text: graphToText(graph) } : {}),
		},
		lines: text
			? graphToText(graph).trimEnd().split('\n')
			: [
					`${path}: ${plural(graph.nodes.length, 'node')}, ${plural(graph.constants.size, 'constant')} (${formatBytes(constantBytes)}), ${formatCount(macs)} MACs`,
					...formatTable([
						...inputs.map((v) => ['  input', v.name, describe(v)]),
						...outputs.map((v) => ['  output', v.name, describe(v)]),
					]),
					'operators',
					...formatTable(
						operators.map(([op, count]) => [`  ${op}`, String(count)]),
						[1],
					),
				],
	};
}

/** Nodes by operator, the most frequent first. */
function operatorCounts(graph: Graph): [string, number][] {
	const counts = new Map<string, number>();
	for (const { op } of graph.nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
	return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
}
