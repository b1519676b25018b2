/** @file A graph as text: the same graph always gives the same lines, so that dumps can be read, compared and kept in tests. */
import { byteSize, describe, readElement, type Tensor } from '../core/tensor.ts';
import type { AttributeValue, Graph, Node, ValueName } from './types.ts';

export interface GraphTextOptions {
	/** Elements shown of a constant; 8 if not given. */
	readonly maxConstant?: number;
}

/**
 * One line per input, constant, node and output, then counts: nodes per operator and bytes of constants. A node reads
 * `y: float32[2,3] = Softmax(x) {axis=-1}  # scope`; an omitted input is `_`, and constants are listed before the nodes.
 */
export function graphToText(graph: Graph, { maxConstant = 8 }: GraphTextOptions = {}): string {
	const typed = (name: ValueName): string => {
		const value = graph.values.get(name);
		return `${name}: ${value ? describe(value) : '?'}`;
	};
	const constants = [...graph.constants];
	const bytes = constants.reduce((sum, [, t]) => sum + byteSize(t), 0);
	return [
		`graph ${graph.name}`,
		...graph.inputs.map((name) => `  input ${typed(name)}`),
		...constants.map(([name, t]) => `  const ${name}: ${describe(t)} = ${shortened(t, maxConstant)}`),
		...graph.nodes.map((node) => `  ${nodeText(node, typed)}`),
		...graph.outputs.map((name) => `  output ${typed(name)}`),
		`  ${countText(graph.nodes.length, 'node')}${operatorCounts(graph.nodes)}`,
		`  ${countText(constants.length, 'constant')}, ${countText(bytes, 'byte')}`,
		'',
	].join('\n');
}

const countText = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function nodeText({ op, inputs, outputs, attributes, scope }: Node, typed: (name: ValueName) => string): string {
	const written = Object.entries(attributes)
		.sort(([a], [b]) => (a < b ? -1 : 1))
		.map(([name, value]) => `${name}=${attributeText(value)}`);
	return [
		`${outputs.map(typed).join(', ')} = ${op}(${inputs.map((name) => name || '_').join(', ')})`,
		...(written.length > 0 ? [` {${written.join(', ')}}`] : []),
		...(scope === '' ? [] : [`  # ${scope}`]),
	].join('');
}

function attributeText(value: AttributeValue): string {
	return typeof value === 'object' ? `[${value.join(',')}]` : String(value);
}

/** The decimal with fewest digits that rounds to the same float32: 0.000009999999747 is the 1e-5 that was meant. Other numbers are returned as they are. */
export function shortestDecimal(value: number): number {
	if (Number.isFinite(value)) {
		for (let digits = 1; digits < 9; digits++) {
			const short = Number(value.toPrecision(digits));
			if (Math.fround(short) === value) return short;
		}
	}
	return value;
}

/** The first elements; float32 with the digits that tell it apart, integers whole. */
function shortened({ dtype, data }: Tensor, max: number): string {
	const shown = Array.from({ length: Math.min(data.length, max) }, (_, i) => {
		if (dtype === 'int64') return String(data[i]);
		const value = readElement(dtype, data, i);
		return Object.is(value, -0) ? '-0' : String(dtype === 'float32' ? shortestDecimal(value) : value);
	});
	return `[${shown.join(', ')}${data.length > max ? `${max > 0 ? ', ' : ''}...` : ''}]`;
}

/** `: Add 2, MatMul 1`, in alphabetical order; empty for no nodes. */
function operatorCounts(nodes: readonly Node[]): string {
	const counts = new Map<string, number>();
	for (const { op } of nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
	const parts = [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([op, n]) => `${op} ${n}`);
	return parts.length > 0 ? `: ${parts.join(', ')}` : '';
}
