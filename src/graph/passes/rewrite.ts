/** @file Rewriting a graph node by node: what passes that match small patterns are made of. */
import { createBuilder, type GraphBuilder } from '../builder.ts';
import { deadCode } from '../extract.ts';
import { type Graph, type Node, type Value, type ValueName, valueNamed } from '../types.ts';

/** What a rule may look at and use. All names are of the rewritten graph, as far as it has come. */
export interface Rewriting {
	/** Nodes emitted here stand in place of the node at hand. */
	readonly g: GraphBuilder;
	value(name: ValueName): Value;
	/** The node that makes a value; undefined for inputs and constants. */
	producer(name: ValueName | ''): Node | undefined;
	/** How often the value was read in the graph before the pass, by nodes and as an output. */
	uses(name: ValueName): number;
}

/** Gives the values to use in place of the node's outputs, or undefined to keep the node. */
export type Rule = (node: Node, rewriting: Rewriting) => readonly Value[] | undefined;

/** Applies `rule` to every node in order. Inputs and outputs keep their names; nodes that are no longer read are dropped. */
export function rewrite(graph: Graph, rule: Rule): Graph {
	const g = createBuilder(graph.name, { ...graph, nodes: [] });
	const nodes: Node[] = [];
	const producers = new Map<ValueName, Node>();
	const replaced = new Map<ValueName, ValueName>();
	const resolve = <T extends ValueName | ''>(name: T): T => (replaced.get(name as ValueName) as T | undefined) ?? name;
	const uses = countUses(graph);
	const keep = (node: Node): void => {
		nodes.push(node);
		for (const output of node.outputs) producers.set(output, node);
	};
	const made = new Map<ValueName, Value>();
	const rewriting: Rewriting = {
		g,
		value: (name) => made.get(name) ?? valueNamed(graph, name),
		producer: (name) => (name === '' ? undefined : producers.get(name)),
		uses: (name) => uses.get(name) ?? 0,
	};
	for (const original of graph.nodes) {
		const node = { ...original, inputs: original.inputs.map(resolve) };
		const mark = g.nodes().length;
		const results = g.scope(node.scope, () => rule(node, rewriting));
		if (!results) {
			keep(node);
			continue;
		}
		for (const added of g.nodes().slice(mark)) keep(added);
		const { values } = g.finish([]);
		for (const added of g.nodes().slice(mark)) for (const output of added.outputs) made.set(output, values.get(output)!);
		node.outputs.forEach((output, i) => {
			const { name } = results[i]!;
			replaced.set(output, name);
			// The new value is read where the old one was, whatever else reads it.
			uses.set(name, (uses.get(name) ?? 0) + (uses.get(output) ?? 0));
		});
	}
	return deadCode(withOutputs(graph, nodes, replaced, g.finish([])));
}

function countUses({ nodes, outputs }: Graph): Map<ValueName, number> {
	const uses = new Map<ValueName, number>();
	for (const name of [...outputs, ...nodes.flatMap((n) => n.inputs)]) if (name !== '') uses.set(name, (uses.get(name) ?? 0) + 1);
	return uses;
}

/** Gives replaced graph outputs their names back: the node that makes one is renamed, or its value copied where it has a name to keep or two to bear. */
function withOutputs(graph: Graph, nodes: readonly Node[], replaced: ReadonlyMap<ValueName, ValueName>, built: Graph): Graph {
	const values = new Map(built.values);
	const fixed = new Set<ValueName>([...graph.inputs, ...graph.outputs, ...graph.constants.keys()]);
	const rename = new Map<ValueName, ValueName>();
	const copies: Node[] = [];
	for (const output of new Set(graph.outputs)) {
		const name = replaced.get(output);
		if (name === undefined) continue;
		values.set(output, { ...values.get(name)!, name: output });
		if (fixed.has(name) || built.constants.has(name) || rename.has(name)) {
			copies.push({ op: 'Identity', inputs: [rename.get(name) ?? name], outputs: [output], attributes: {}, scope: '' });
		} else rename.set(name, output);
	}
	const map = <T extends ValueName | ''>(name: T): T => (rename.get(name as ValueName) as T | undefined) ?? name;
	const renamed = nodes.map((n) => ({ ...n, inputs: n.inputs.map(map), outputs: n.outputs.map(map) }));
	return { ...built, outputs: graph.outputs, nodes: [...renamed, ...copies], values };
}
