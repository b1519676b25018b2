/** @file A stage's graph as one device runs it: inputs that arrive in pieces are joined and added up, outputs that go to several devices copied or cut. */
import { createBuilder } from '../../graph/builder.ts';
import { checkGraph } from '../../graph/check.ts';
import { extract } from '../../graph/extract.ts';
import type { Graph, Node, Value, ValueName } from '../../graph/types.ts';

/** Rows of a value that arrive by themselves. */
export interface Piece {
	readonly name: ValueName;
	readonly rows: number;
}

/** A value that arrives as the sum of terms, each in pieces along the first axis. */
export interface Join {
	readonly value: Value;
	readonly terms: readonly (readonly Piece[])[];
}

/** A copy of a value, or of rows [from, to) of it. */
export interface Part {
	readonly of: ValueName;
	readonly rows?: readonly [from: number, to: number];
}

/** The graph with `joins` before it, whose pieces are inputs, and with `outputs` and then the `parts` as its outputs. */
export function wire(graph: Graph, joins: readonly Join[], parts: readonly Part[], outputs: readonly ValueName[]): Graph {
	const joined = joins.length === 0 ? graph : joinInputs(graph, joins);
	const g = createBuilder(graph.name, joined);
	const made = parts.map(({ of, rows }) => {
		const value = joined.values.get(of)!;
		return rows ? g.slice(value, [rows[0]], [rows[1]], [0]) : g.identity(value);
	});
	const whole = g.finish(made);
	const wired = extract(whole, graph.name, whole.inputs, [...outputs, ...whole.outputs], { keepInputs: true });
	return checkGraph(wired, 'wiring');
}

function joinInputs(graph: Graph, joins: readonly Join[]): Graph {
	const values = new Map(graph.values);
	for (const { value } of joins) values.set(value.name, value);
	const replaced = new Set(joins.map(({ value }) => value.name));
	const g = createBuilder(graph.name, { ...graph, nodes: [], values, inputs: graph.inputs.filter((name) => !replaced.has(name)) });
	const rename = new Map<ValueName, ValueName>();
	for (const { value, terms } of joins) {
		const whole = terms.map((pieces) =>
			g.concat(
				pieces.map(({ name, rows }) => g.input(name, value.dtype, [rows, ...value.shape.slice(1)])),
				0,
			),
		);
		rename.set(whole.reduce((a, b) => g.add(a, b)).name, value.name);
	}
	const before = g.finish([]);
	const map = (name: ValueName): ValueName => rename.get(name) ?? name;
	const nodes = before.nodes.map((node): Node => ({ ...node, outputs: node.outputs.map(map) }));
	for (const name of rename.keys()) (before.values as Map<ValueName, Value>).delete(name);
	return { ...before, nodes: [...nodes, ...graph.nodes], outputs: graph.outputs };
}
