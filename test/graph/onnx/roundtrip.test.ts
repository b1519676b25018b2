/** @file Graph to file to graph: nothing is lost, for every operator, whoever wrote the bytes. */
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { createBuilder } from '../../../src/graph/builder.ts';
import { checkGraph } from '../../../src/graph/check.ts';
import { deadCode } from '../../../src/graph/extract.ts';
import { readOnnx, writeOnnx } from '../../../src/graph/onnx/index.ts';
import { type OpKind, ops } from '../../../src/graph/ops/index.ts';
import { foldConstants } from '../../../src/graph/passes/fold.ts';
import { graphToText } from '../../../src/graph/text.ts';
import type { Graph } from '../../../src/graph/types.ts';
import { randomInputs } from '../../helpers/gradcheck.ts';
import { opCases } from '../../helpers/op-cases.ts';
import { image, mlp } from './fixtures.ts';

/** The graph as a file holds it: attributes have the precision of float32, and inputs omitted at the end are not there. */
const asWritten = (graph: Graph): string =>
	graphToText({
		...graph,
		nodes: graph.nodes.map((n) => ({
			...n,
			inputs: n.inputs.slice(0, n.inputs.findLastIndex((i) => i !== '') + 1),
			attributes: Object.fromEntries(
				Object.entries(n.attributes).map(([k, v]) => [k, typeof v === 'number' && !Number.isInteger(v) ? Number(v.toPrecision(7)) : v]),
			),
		})),
	});

const graphs: [string, Graph][] = [
	['mlp', mlp()],
	['image', image()],
	...opCases.map(({ op, name, inputs, build }): [string, Graph] => {
		const g = createBuilder(op);
		const values = randomInputs(inputs, 'float32').map((t, i) => g.input(`x${i}`, t.dtype, t.shape));
		const outputs = g.scope('layer.0', () => [build(g, ...values)].flat());
		// Reading carries out arithmetic on constants; a graph without any is what comes back unchanged.
		return [`${op}, ${name}`, deadCode(foldConstants(g.finish(outputs)))];
	}),
];

describe.each(graphs)('%s', (_, graph) => {
	const bytes = writeOnnx(graph, { dropUnusedOutputs: false });

	it('comes back whole', () => {
		const back = checkGraph(readOnnx(bytes), 'reading');
		expect(asWritten(back)).toBe(asWritten(graph));
		expect([...back.constants]).toEqual([...graph.constants]);
	});

	it('gives the same bytes again', () => {
		expect(writeOnnx(readOnnx(bytes), { dropUnusedOutputs: false })).toEqual(bytes);
		const short = writeOnnx(graph);
		expect(writeOnnx(readOnnx(short))).toEqual(short);
	});

	it('survives the protobuf implementation of the ONNX project', () => {
		const { ModelProto } = onnxProto.onnx;
		const again = ModelProto.encode(ModelProto.decode(bytes)).finish();
		expect(graphToText(readOnnx(again))).toBe(graphToText(readOnnx(bytes)));
	});
});

it('covers every operator but those over blocks of channels, which are the machine’s and are written only for its ONNX Runtime', () => {
	const covered = new Set(graphs.flatMap(([, g]) => g.nodes.map((n) => n.op)));
	const read = (Object.keys(ops) as OpKind[]).filter((op) => ops[op].domain !== 'com.microsoft.nchwc');
	expect(read.filter((op) => !covered.has(op))).toEqual([]);
});
