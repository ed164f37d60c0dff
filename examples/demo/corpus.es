El gato lleva durmiendo encima de la impresora desde el almuerzo.
A quien se haya llevado mi escalera: que me la devuelva, por favor.
Página 3 de 12
Esta línea no tiene original.
La marea sube más deprisa de lo que uno cree.
