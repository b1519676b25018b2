/** @file Constant folding, and removal of operations that change nothing. */
import { sameShape, sizeOf, type Tensor, toNumbers } from '../../core/tensor.ts';
import { evaluateNode } from '../evaluate.ts';
import type { Graph, Node, ValueName } from '../types.ts';
import { valueNamed } from '../types.ts';

/** Folds nodes whose inputs are all constant (up to `maxElements` of result) and drops multiplications by 1, additions of 0, empty moves. */
export function foldConstants(graph: Graph, maxElements = 1 << 20): Graph {
	const constants = new Map<ValueName, Tensor>(graph.constants);
	const replaced = new Map<ValueName, ValueName>();
	const resolve = <T extends ValueName | ''>(name: T): T => (replaced.get(name as ValueName) as T | undefined) ?? name;
	const outputs = new Set(graph.outputs);
	const nodes: Node[] = [];
	for (const original of graph.nodes) {
		const node: Node = { ...original, inputs: original.inputs.map(resolve) };
		const foldable = node.inputs.length > 0 && node.inputs.every((i) => i === '' || constants.has(i));
		const small = node.outputs.every((o) => sizeOf(valueNamed(graph, o).shape) <= maxElements);
		if (foldable && small && !node.outputs.some((o) => outputs.has(o))) {
			const results = evaluateNode(
				graph,
				node,
				node.inputs.map((i) => (i === '' ? undefined : constants.get(i))),
			);
			node.outputs.forEach((o, i) => {
				constants.set(o, results[i]!);
			});
			continue;
		}
		const same = identityOf(graph, node, constants);
		if (same !== undefined && !outputs.has(node.outputs[0]!)) {
			replaced.set(node.outputs[0]!, same);
			continue;
		}
		nodes.push(node);
	}
	const values = new Map([...graph.values].filter(([n]) => !replaced.has(n)));
	return { ...graph, nodes, constants, values };
}

/** The input a node passes through unchanged, or undefined when it does something. */
function identityOf(graph: Graph, node: Node, constants: ReadonlyMap<ValueName, Tensor>): ValueName | undefined {
	const [a, b] = node.inputs;
	if (!a || node.outputs.length !== 1) return undefined;
	const out = valueNamed(graph, node.outputs[0]!);
	const keeps = (x: ValueName | '' | undefined): x is ValueName => {
		const v = x ? graph.values.get(x) : undefined;
		return v !== undefined && v.dtype === out.dtype && sameShape(v.shape, out.shape);
	};
	const isAll = (x: ValueName | '' | undefined, value: number) => {
		const t = x ? constants.get(x) : undefined;
		return t !== undefined && t.data.length <= 4096 && toNumbers(t).every((v) => v === value);
	};
	switch (node.op) {
		case 'Identity':
		case 'Cast':
		case 'Reshape':
		case 'Expand':
		case 'Squeeze':
		case 'Unsqueeze':
		case 'Flatten':
			return keeps(a) ? a : undefined;
		case 'Transpose':
			return (node.attributes.perm as readonly number[] | undefined)?.every((p, i) => p === i) && keeps(a) ? a : undefined;
		case 'Mul':
			if (keeps(a) && isAll(b, 1)) return a;
			return keeps(b) && isAll(a, 1) ? b : undefined;
		case 'Add':
			if (keeps(a) && isAll(b, 0)) return a;
			return keeps(b) && isAll(a, 0) ? b : undefined;
		case 'Sub':
			return keeps(a) && isAll(b, 0) ? a : undefined;
		case 'Div':
			return keeps(a) && isAll(b, 1) ? a : undefined;
		default:
			return undefined;
	}
}
