/** @file Cases of convolutions, pooling, shape and index operators. */
import type { OpCase } from './op-case.ts';

export const shapeCases: readonly OpCase[] = [];
