/** @file Small cases of every operator of the table, by family. */
import type { OpCase } from './op-case.ts';
import { mathCases } from './op-cases-math.ts';
import { shapeCases } from './op-cases-shape.ts';

export const opCases: readonly OpCase[] = [...mathCases, ...shapeCases];
