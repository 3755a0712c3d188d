"""The words, one row per meaning in five languages, so that every sentence of the grammar has a true translation.

Rows are `English | French | Spanish | German | Russian`. Nouns carry their article (where there is one) and, after a
slash, their gender where adjectives must agree; forms in braces are accusatives where they differ. `a,b` are
masculine and feminine (Russian: and neuter) of an adjective; verbs are `he-form, I-form`. Written for this project.
"""

from __future__ import annotations

LANGUAGE_ORDER = ("en", "fr", "es", "de", "ru")

PEOPLE = """
the man | l'homme/m | el hombre/m | der Mann | мужчина/m
the woman | la femme/f | la mujer/f | die Frau | женщина/f
the boy | le garçon/m | el niño/m | der Junge | мальчик/m
the girl | la fille/f | la niña/f | das Mädchen | девочка/f
the doctor | le médecin/m | el médico/m | der Arzt | врач/m
the teacher | le professeur/m | el profesor/m | der Lehrer | учитель/m
my father | mon père/m | mi padre/m | mein Vater | мой отец/m
my mother | ma mère/f | mi madre/f | meine Mutter | моя мама/f
my brother | mon frère/m | mi hermano/m | mein Bruder | мой брат/m
my sister | ma sœur/f | mi hermana/f | meine Schwester | моя сестра/f
my friend | mon ami/m | mi amigo/m | mein Freund | мой друг/m
the neighbor | le voisin/m | el vecino/m | der Nachbar | сосед/m
the king | le roi/m | el rey/m | der König | король/m
the queen | la reine/f | la reina/f | die Königin | королева/f
the farmer | le paysan/m | el granjero/m | der Bauer | крестьянин/m
the student | l'étudiant/m | el estudiante/m | der Student | студент/m
the driver | le chauffeur/m | el conductor/m | der Fahrer | водитель/m
the cook | le cuisinier/m | el cocinero/m | der Koch | повар/m
the singer | la chanteuse/f | la cantante/f | die Sängerin | певица/f
the soldier | le soldat/m | el soldado/m | der Soldat | солдат/m
grandma | mamie/f | la abuela/f | Oma | бабушка/f
grandpa | papi/m | el abuelo/m | Opa | дедушка/m
my uncle | mon oncle/m | mi tío/m | mein Onkel | мой дядя/m
my aunt | ma tante/f | mi tía/f | meine Tante | моя тётя/f
the boss | le patron/m | el jefe/m | der Chef | начальник/m
the dog | le chien/m | el perro/m | der Hund | собака/f
the cat | le chat/m | el gato/m | die Katze | кошка/f
the lady | la dame/f | la señora/f | die Dame | дама/f
the painter | le peintre/m | el pintor/m | der Maler | художник/m
the guest | l'invité/m | el invitado/m | der Gast | гость/m
"""

THINGS = """
the bread | le pain/m | el pan/m | das Brot | хлеб/m
the water | l'eau/f | el agua/f | das Wasser | вода/f {воду}
the house | la maison/f | la casa/f | das Haus | дом/m
the door | la porte/f | la puerta/f | die Tür | дверь/f
the key | la clé/f | la llave/f | der Schlüssel {den Schlüssel} | ключ/m
the book | le livre/m | el libro/m | das Buch | книга/f {книгу}
the letter | la lettre/f | la carta/f | der Brief {den Brief} | письмо/n
the apple | la pomme/f | la manzana/f | der Apfel {den Apfel} | яблоко/n
the milk | le lait/m | la leche/f | die Milch | молоко/n
the soup | la soupe/f | la sopa/f | die Suppe | суп/m
the coffee | le café/m | el café/m | der Kaffee {den Kaffee} | кофе/m
the tea | le thé/m | el té/m | der Tee {den Tee} | чай/m
the fish | le poisson/m | el pescado/m | der Fisch {den Fisch} | рыба/f {рыбу}
the meat | la viande/f | la carne/f | das Fleisch | мясо/n
the cheese | le fromage/m | el queso/m | der Käse {den Käse} | сыр/m
the car | la voiture/f | el coche/m | das Auto | машина/f {машину}
the table | la table/f | la mesa/f | der Tisch {den Tisch} | стол/m
the chair | la chaise/f | la silla/f | der Stuhl {den Stuhl} | стул/m
the bed | le lit/m | la cama/f | das Bett | кровать/f
the window | la fenêtre/f | la ventana/f | das Fenster | окно/n
the lamp | la lampe/f | la lámpara/f | die Lampe | лампа/f {лампу}
the flower | la fleur/f | la flor/f | die Blume | цветок/m
the tree | l'arbre/m | el árbol/m | der Baum {den Baum} | дерево/n
the shoe | la chaussure/f | el zapato/m | der Schuh {den Schuh} | туфля/f {туфлю}
the hat | le chapeau/m | el sombrero/m | der Hut {den Hut} | шляпа/f {шляпу}
the shirt | la chemise/f | la camisa/f | das Hemd | рубашка/f {рубашку}
the bag | le sac/m | la bolsa/f | die Tasche | сумка/f {сумку}
the money | l'argent/m | el dinero/m | das Geld | деньги/p
the ticket | le billet/m | el billete/m | die Karte | билет/m
the phone | le téléphone/m | el teléfono/m | das Telefon | телефон/m
the picture | la photo/f | la foto/f | das Bild | картина/f {картину}
the knife | le couteau/m | el cuchillo/m | das Messer | нож/m
the cup | la tasse/f | la taza/f | die Tasse | чашка/f {чашку}
the bottle | la bouteille/f | la botella/f | die Flasche | бутылка/f {бутылку}
the ring | la bague/f | el anillo/m | der Ring {den Ring} | кольцо/n
the boat | le bateau/m | el barco/m | das Boot | лодка/f {лодку}
the ball | le ballon/m | la pelota/f | der Ball {den Ball} | мяч/m
the bicycle | le vélo/m | la bicicleta/f | das Fahrrad | велосипед/m
the cake | le gâteau/m | el pastel/m | der Kuchen {den Kuchen} | торт/m
the map | la carte/f | el mapa/m | die Landkarte | карта/f {карту}
"""

VERBS_WITH_OBJECT = """
sees,see | voit,vois | ve,veo | sieht,sehe | видит,вижу
wants,want | veut,veux | quiere,quiero | will,will | хочет,хочу
takes,take | prend,prends | toma,tomo | nimmt,nehme | берёт,беру
buys,buy | achète,achète | compra,compro | kauft,kaufe | покупает,покупаю
sells,sell | vend,vends | vende,vendo | verkauft,verkaufe | продаёт,продаю
finds,find | trouve,trouve | encuentra,encuentro | findet,finde | находит,нахожу
loves,love | aime,aime | ama,amo | liebt,liebe | любит,люблю
holds,hold | tient,tiens | sostiene,sostengo | hält,halte | держит,держу
brings,bring | apporte,apporte | trae,traigo | bringt,bringe | несёт,несу
forgets,forget | oublie,oublie | olvida,olvido | vergisst,vergesse | забывает,забываю
looks for,look for | cherche,cherche | busca,busco | sucht,suche | ищет,ищу
shows,show | montre,montre | muestra,muestro | zeigt,zeige | показывает,показываю
draws,draw | dessine,dessine | dibuja,dibujo | malt,male | рисует,рисую
gets,get | reçoit,reçois | recibe,recibo | bekommt,bekomme | получает,получаю
loses,lose | perd,perds | pierde,pierdo | verliert,verliere | теряет,теряю
washes,wash | lave,lave | lava,lavo | wäscht,wasche | моет,мою
"""

VERBS_ALONE = """
sleeps | dort | duerme | schläft | спит
sings | chante | canta | singt | поёт
laughs | rit | ríe | lacht | смеётся
cries | pleure | llora | weint | плачет
dances | danse | baila | tanzt | танцует
works | travaille | trabaja | arbeitet | работает
waits | attend | espera | wartet | ждёт
runs | court | corre | rennt | бежит
speaks | parle | habla | spricht | говорит
swims | nage | nada | schwimmt | плавает
cooks | cuisine | cocina | kocht | готовит
smiles | sourit | sonríe | lächelt | улыбается
listens | écoute | escucha | hört | слушает
thinks | pense | piensa | denkt | думает
shouts | crie | grita | schreit | кричит
eats | mange | come | isst | ест
drinks | boit | bebe | trinkt | пьёт
plays | joue | juega | spielt | играет
reads | lit | lee | liest | читает
dreams | rêve | sueña | träumt | мечтает
"""

PLACES = """
at home | à la maison | en casa | zu Hause | дома
in the garden | dans le jardin | en el jardín | im Garten | в саду
in the kitchen | dans la cuisine | en la cocina | in der Küche | на кухне
at school | à l'école | en la escuela | in der Schule | в школе
in the street | dans la rue | en la calle | auf der Straße | на улице
in the city | en ville | en la ciudad | in der Stadt | в городе
on the train | dans le train | en el tren | im Zug | в поезде
at the market | au marché | en el mercado | auf dem Markt | на рынке
in the forest | dans la forêt | en el bosque | im Wald | в лесу
on the beach | sur la plage | en la playa | am Strand | на пляже
in the park | dans le parc | en el parque | im Park | в парке
at the office | au bureau | en la oficina | im Büro | в офисе
in the village | au village | en el pueblo | im Dorf | в деревне
by the sea | à la mer | en el mar | am Meer | на море
here | ici | aquí | hier | здесь
over there | là-bas | allí | dort | там
"""

TIMES = """
today | aujourd'hui | hoy | heute | сегодня
now | maintenant | ahora | jetzt | сейчас
this evening | ce soir | esta noche | heute Abend | вечером
in the morning | le matin | por la mañana | am Morgen | утром
at night | la nuit | de noche | in der Nacht | ночью
in summer | en été | en verano | im Sommer | летом
in winter | en hiver | en invierno | im Winter | зимой
every day | chaque jour | cada día | jeden Tag | каждый день
on Monday | lundi | el lunes | am Montag | в понедельник
on Friday | vendredi | el viernes | am Freitag | в пятницу
on Sunday | dimanche | el domingo | am Sonntag | в воскресенье
again | encore | otra vez | wieder | опять
"""

# Spanish says `es` of what a thing is and `está` of the state it is in: the latter are marked with *.
QUALITIES = """
red | rouge,rouge | rojo,roja | rot | красный,красная,красное,красные
white | blanc,blanche | blanco,blanca | weiß | белый,белая,белое,белые
black | noir,noire | negro,negra | schwarz | чёрный,чёрная,чёрное,чёрные
green | vert,verte | verde,verde | grün | зелёный,зелёная,зелёное,зелёные
big | grand,grande | grande,grande | groß | большой,большая,большое,большие
small | petit,petite | pequeño,pequeña | klein | маленький,маленькая,маленькое,маленькие
new | neuf,neuve | nuevo,nueva | neu | новый,новая,новое,новые
old | vieux,vieille | viejo,vieja | alt | старый,старая,старое,старые
good | bon,bonne | bueno,buena | gut | хороший,хорошая,хорошее,хорошие
bad | mauvais,mauvaise | malo,mala | schlecht | плохой,плохая,плохое,плохие
cold | froid,froide | *frío,fría | kalt | холодный,холодная,холодное,холодные
beautiful | beau,belle | bonito,bonita | schön | красивый,красивая,красивое,красивые
clean | propre,propre | *limpio,limpia | sauber | чистый,чистая,чистое,чистые
dirty | sale,sale | *sucio,sucia | schmutzig | грязный,грязная,грязное,грязные
expensive | cher,chère | caro,cara | teuer | дорогой,дорогая,дорогое,дорогие
empty | vide,vide | *vacío,vacía | leer | пустой,пустая,пустое,пустые
"""

# Two words for each style of delivery (`styles.STYLES`), in its order.
FEELINGS = """
calm | calme,calme | tranquilo,tranquila | ruhig | спокоен,спокойна
serious | sérieux,sérieuse | serio,seria | ernst | серьёзен,серьёзна
happy | heureux,heureuse | feliz,feliz | glücklich | счастлив,счастлива
cheerful | joyeux,joyeuse | alegre,alegre | fröhlich | весел,весела
angry | fâché,fâchée | enfadado,enfadada | böse | сердит,сердита
furious | furieux,furieuse | furioso,furiosa | wütend | взбешён,взбешена
sad | triste,triste | triste,triste | traurig | печален,печальна
lonely | seul,seule | solo,sola | einsam | одинок,одинока
afraid | effrayé,effrayée | asustado,asustada | ängstlich | напуган,напугана
worried | inquiet,inquiète | preocupado,preocupada | besorgt | встревожен,встревожена
quiet | silencieux,silencieuse | callado,callada | still | молчалив,молчалива
tired | fatigué,fatiguée | cansado,cansada | müde | устал,устала
"""

DEGREES = """
 |  |  |  | 
very | très | muy | sehr | очень
so | si | tan | so | так
too | trop | demasiado | zu | слишком
"""
