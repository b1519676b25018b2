/** @file Cases of arithmetic, comparison, activations, reductions, softmax, products and normalisation. */
import type { OpCase } from './op-case.ts';

export const mathCases: readonly OpCase[] = [];
